/** What is sent of a picture, and in which codecs. */

/** A camera's layers, the lowest first. */
export const LAYERS: RTCRtpEncodingParameters[] = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: "f", scaleResolutionDownBy: 1, maxBitrate: 1_700_000 },
];
export const SCREEN_BPS_MAX = 2_500_000;

/** The codecs the engine carries, so that offers stay small: a browser lists twenty for every slot. */
export function prefer(transceiver: RTCRtpTransceiver): void {
  const kind = transceiver.receiver.track.kind;
  const codecs = RTCRtpReceiver.getCapabilities(kind)?.codecs ?? [];
  const wanted = codecs.filter(({ mimeType, sdpFmtpLine }) => {
    switch (mimeType.toLowerCase()) {
      case "audio/opus":
      case "video/vp8":
      case "video/rtx":
        return true;
      case "video/h264":
        return /packetization-mode=1/.test(sdpFmtpLine ?? "") && /42e0/i.test(sdpFmtpLine ?? "");
      default:
        return false;
    }
  });
  if (wanted.length > 0) transceiver.setCodecPreferences?.(wanted);
}

/** Makes the layers up to the highest that is watched, and no others. */
export async function send_layers(sender: RTCRtpSender | undefined, highest: number | null): Promise<void> {
  const parameters = sender?.getParameters();
  if (!sender || !parameters?.encodings.length) return;
  parameters.encodings.forEach((encoding, at) => (encoding.active = highest !== null && at <= highest));
  // A sender that has stopped meanwhile has no layers either.
  await sender.setParameters(parameters).catch(() => {});
}
