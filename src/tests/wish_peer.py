"""A WHIP publisher, a WHEP viewer and a participant of a call on a WebRTC stack that no browser has (aiortc).

  wish_peer.py whip URL KEY    publishes a picture that brightens and darkens, and a tone, until its input ends
  wish_peer.py whep URL        watches until its input ends
  wish_peer.py room            does both: says its `offer`, and takes the answer from the first line of its input, as a JSON string

Says on its output, one JSON object a line, what happened: `answered`, `connected`, `seen` each half second, `left`.
"""

import asyncio
import fractions
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import av
import numpy
from aiortc import AudioStreamTrack, RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription, VideoStreamTrack

PITCH_HZ, RATE_HZ, SAMPLES = 440, 48_000, 960


def says(what, **more):
    print(json.dumps({"what": what, **more}), flush=True)


class Flashes(VideoStreamTrack):
    """Grey of a level that goes up and down each second."""

    async def recv(self):
        pts, time_base = await self.next_timestamp()
        level = 40 if int(time.time() * 2) % 2 else 200
        frame = av.VideoFrame.from_ndarray(numpy.full((180, 320, 3), level, dtype=numpy.uint8), format="rgb24")
        frame.pts, frame.time_base = pts, time_base
        return frame


class Tone(AudioStreamTrack):
    """A sine at half of full scale, 20 ms at a time."""

    def __init__(self):
        super().__init__()
        self.began, self.at = None, 0

    async def recv(self):
        self.began = self.began or time.time()
        await asyncio.sleep(max(0, self.began + self.at / RATE_HZ - time.time()))
        phase = 2 * numpy.pi * PITCH_HZ * (self.at + numpy.arange(SAMPLES)) / RATE_HZ
        sound = (16_000 * numpy.sin(phase)).astype(numpy.int16)
        frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, self.at, fractions.Fraction(1, RATE_HZ)
        self.at += SAMPLES
        return frame


async def asks(method, url, body=None, **headers):
    """Status, headers and text of an answer, whatever it is."""
    data = body.encode() if body is not None else None
    request = urllib.request.Request(url, data, {name.replace("_", "-"): value for name, value in headers.items()}, method=method)

    def go():
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers, refused.read().decode()

    return await asyncio.to_thread(go)


class Seen:
    """What came, and when the first picture did."""

    def __init__(self):
        self.began, self.first, self.pictures, self.levels, self.energy = time.time(), None, 0, set(), 0.0

    async def look(self, track):
        while True:
            picture = await track.recv()
            self.first = self.first or time.time() - self.began
            self.pictures += 1
            self.levels.add(int(picture.to_ndarray(format="gray").mean()) // 100)

    async def listen(self, track):
        while True:
            sound = (await track.recv()).to_ndarray().astype(float) / 32_768
            self.energy += float((sound * sound).mean())


def publishes(pc, codec):
    pc.addTransceiver(Tone(), "sendonly")
    pictures = pc.addTransceiver(Flashes(), "sendonly")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    pictures.setCodecPreferences([one for one in codecs if one.mimeType == codec])


def watches(pc, seen, tasks):
    pc.addTransceiver("audio", "recvonly")
    pc.addTransceiver("video", "recvonly")

    @pc.on("track")
    def on_track(track):
        way = seen.look if track.kind == "video" else seen.listen
        tasks.append(asyncio.ensure_future(way(track)))


async def main():
    way = sys.argv[1]
    url = sys.argv[2] if way != "room" else None
    # One transport from the start, as everything is bundled.
    configuration = RTCConfiguration(bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
    pc, seen, tasks, session, more = RTCPeerConnection(configuration), Seen(), [], None, {}
    if way != "whep":
        publishes(pc, "video/H264" if way == "whip" else "video/VP8")
    if way != "whip":
        watches(pc, seen, tasks)
    connected = asyncio.Event()

    @pc.on("connectionstatechange")
    async def on_change():
        if pc.connectionState == "connected":
            connected.set()
        says(pc.connectionState)

    await pc.setLocalDescription(await pc.createOffer())
    offer = pc.localDescription.sdp
    if way == "room":
        says("offer", sdp=offer)
        text = json.loads(await asyncio.to_thread(sys.stdin.readline))
    else:
        if way == "whip":
            more = {"Authorization": f"Bearer {sys.argv[3]}"}
        status, headers, text = await asks("POST", url, offer, Content_Type="application/sdp", **more)
        session = headers.get("Location") and urllib.parse.urljoin(url, headers["Location"])
        says("answered", status=status, session=session, tag=headers.get("ETag"), retry_after=headers.get("Retry-After"))
        if status != 201:
            await pc.close()
            return
    await pc.setRemoteDescription(RTCSessionDescription(text, "answer"))
    await asyncio.wait_for(connected.wait(), 30)

    over = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    while not over.done():
        await asyncio.wait([over], timeout=0.5)
        first = seen.first and round(seen.first * 1_000)
        says("seen", pictures=seen.pictures, first_ms=first, levels=len(seen.levels), energy=seen.energy)
    status = (await asks("DELETE", session, **more))[0] if session else None
    says("left", status=status)
    for task in tasks:
        task.cancel()
    await pc.close()


asyncio.run(main())
