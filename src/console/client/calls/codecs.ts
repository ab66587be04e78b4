/** What is sent of a picture, and in which codecs. */

/** A camera's layers, the lowest first. */
export const LAYERS: RTCRtpEncodingParameters[] = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: "f", scaleResolutionDownBy: 1, maxBitrate: 1_700_000 },
];
export const SCREEN_BPS_MAX = 2_500_000;

/**
 * The codecs the engine carries, so that offers stay small: a browser lists twenty for every slot. Where the browser knows how, sound says once
 * more what it said before (RFC 2198), so who loses a packet has lost nothing; who cannot read that is given plain sound by the engine.
 */
export function prefer(transceiver: RTCRtpTransceiver): void {
  const kind = transceiver.receiver.track.kind;
  const codecs = RTCRtpReceiver.getCapabilities(kind)?.codecs ?? [];
  const wanted = codecs.filter(({ mimeType, sdpFmtpLine }) => {
    switch (mimeType.toLowerCase()) {
      case "audio/red":
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
  const is_red = ({ mimeType }: RTCRtpCodec) => mimeType.toLowerCase() === "audio/red";
  // What stands first is what is sent.
  const ordered = [...wanted.filter(is_red), ...wanted.filter((codec) => !is_red(codec))];
  if (ordered.length > 0) transceiver.setCodecPreferences?.(ordered);
}
