"""A WHIP publisher, a WHEP viewer and a participant of a call on GStreamer's webrtcbin, whose ICE is libnice's and whose SRTP is libsrtp's.

  gst_peer.py whip URL KEY    publishes a picture that brightens and darkens, and a tone, until its input ends
  gst_peer.py whep URL        watches until its input ends
  gst_peer.py room            does both: says its `offer`, and takes the answer from the first line of its input, as a JSON string

Says on its output, one JSON object a line, what happened: `answered`, `connected`, `seen` each half second, `left`.
"""

import json
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import gi

for name in ("Gst", "GstSdp", "GstWebRTC"):
    gi.require_version(name, "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC

VOICE = """audiotestsrc is-live=true freq=440 volume=0.5 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay pt=97
  ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97,encoding-params=(string)2 ! queue ! rtc.sink_0"""
LIGHT = "videotestsrc name=light is-live=true ! video/x-raw,width=320,height=180,framerate=30/1,format=I420 ! %s ! queue ! rtc.sink_1"
H264 = """x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 bitrate=400 ! video/x-h264,profile=constrained-baseline
  ! rtph264pay config-interval=-1 aggregate-mode=zero-latency pt=96 ! application/x-rtp,media=video,encoding-name=H264,payload=96"""
VP8 = """vp8enc deadline=1 keyframe-max-dist=30 target-bitrate=400000
  ! rtpvp8pay picture-id-mode=15-bit pt=96 ! application/x-rtp,media=video,encoding-name=VP8,payload=96"""
HEARS = "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,encoding-params=(string)2,payload=97"
SEES = {
    "whep": """application/x-rtp,media=video,encoding-name=H264,clock-rate=90000,payload=96,packetization-mode=(string)1,
      profile-level-id=(string)42c01f""",
    "room": "application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000,payload=96",
}
# Sound is measured ten times a second.
MEASURES_PER_S = 10


def says(what, **more):
    print(json.dumps({"what": what, **more}), flush=True)


def asks(method, url, body=None, **headers):
    """Status, headers and text of an answer, whatever it is."""
    data = body.encode() if body is not None else None
    request = urllib.request.Request(url, data, {name.replace("_", "-"): value for name, value in headers.items()}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, refused.read().decode()


class Peer:
    def __init__(self, way, url, key):
        self.way, self.url, self.session = way, url, None
        self.more = {"Authorization": f"Bearer {key}"} if key else {}
        self.began, self.first, self.pictures, self.levels, self.energy = time.time(), None, 0, set(), 0.0
        self.loop, self.offered, self.failed = GLib.MainLoop(), False, False
        parts = ["webrtcbin name=rtc bundle-policy=max-bundle"]
        if way != "whep":
            parts += [VOICE, LIGHT % (H264 if way == "whip" else VP8)]
        self.pipe = Gst.parse_launch("pipeline.( %s )" % "\n".join(parts))
        self.rtc = self.pipe.get_by_name("rtc")
        # What is tested is on this machine, and libnice pairs loopback with nothing else.
        # It is kept, because whoever lets go of it last ends it.
        self.agent = self.rtc.get_property("ice-agent")
        self.agent.emit("add-local-ip-address", "127.0.0.1")
        direction = GstWebRTC.WebRTCRTPTransceiverDirection
        if way != "whep":
            for at in range(2):
                self.rtc.emit("get-transceiver", at).set_property("direction", direction.SENDONLY)
        if way != "whip":
            for caps in (HEARS, SEES[way]):
                self.rtc.emit("add-transceiver", direction.RECVONLY, Gst.Caps.from_string(caps))
        self.rtc.connect("on-negotiation-needed", self.on_needed)
        self.rtc.connect("notify::ice-gathering-state", self.on_gathered)
        self.rtc.connect("notify::connection-state", self.on_connection)
        self.rtc.connect("pad-added", self.on_pad)
        bus = self.pipe.get_bus()
        bus.add_signal_watch()
        bus.connect("message", self.on_message)

    # ── The session ────────────────────────────────────────────────────────────────────────────────────────────

    def on_needed(self, rtc):
        rtc.emit("create-offer", None, Gst.Promise.new_with_change_func(self.on_offer, None))

    def on_offer(self, promise, _):
        # It holds the offer.
        reply = promise.get_reply()
        offer = reply.get_value("offer")
        self.rtc.emit("set-local-description", offer, Gst.Promise.new())

    def on_gathered(self, rtc, _):
        if rtc.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            # Not on a thread of the pipeline, which has other things to do than to wait for an answer.
            GLib.idle_add(self.negotiate)

    def negotiate(self):
        if self.offered:
            return
        self.offered = True
        offer = self.rtc.get_property("local-description").sdp.as_text()
        if self.way == "room":
            says("offer", sdp=offer)
            self.take(json.loads(sys.stdin.readline()))
        else:
            status, headers, text = asks("POST", self.url, offer, Content_Type="application/sdp", **self.more)
            self.session = headers.get("Location") and urllib.parse.urljoin(self.url, headers["Location"])
            says("answered", status=status, session=self.session, retry_after=headers.get("Retry-After"), text=text if status != 201 else None)
            if status != 201:
                return self.loop.quit()
            self.take(text)
        threading.Thread(target=self.wait_for_the_end, daemon=True).start()
        GLib.timeout_add(500, self.on_half_second)

    def take(self, text):
        _, sdp = GstSdp.SDPMessage.new_from_text(text)
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        self.rtc.emit("set-remote-description", answer, Gst.Promise.new())

    def on_connection(self, rtc, _):
        says(rtc.get_property("connection-state").value_nick)

    def wait_for_the_end(self):
        sys.stdin.read()
        GLib.idle_add(self.loop.quit)

    # ── What is seen and heard ─────────────────────────────────────────────────────────────────────────────────

    def on_pad(self, _, pad):
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        if pad.get_current_caps().get_structure(0).get_string("media") == "audio":
            tail = f"audioconvert ! level interval={Gst.SECOND // MEASURES_PER_S} ! fakesink sync=false"
        else:
            tail = "videoconvert ! video/x-raw,format=GRAY8 ! appsink name=eye emit-signals=true sync=false"
        shown = Gst.parse_bin_from_description(tail, True)
        if eye := shown.get_by_name("eye"):
            eye.connect("new-sample", self.on_picture)
        decoder = Gst.ElementFactory.make("decodebin")
        decoder.connect("pad-added", lambda _, decoded: decoded.link(shown.get_static_pad("sink")))
        for part in (decoder, shown):
            self.pipe.add(part)
            part.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))

    def on_picture(self, eye):
        picture = eye.emit("pull-sample").get_buffer()
        self.first = self.first or time.time() - self.began
        self.pictures += 1
        row = picture.extract_dup(0, 320)
        self.levels.add(sum(row) // len(row) // 100)
        return Gst.FlowReturn.OK

    def on_message(self, _, message):
        if message.type == Gst.MessageType.ERROR:
            error, detail = message.parse_error()
            says("failed", error=error.message, detail=detail)
            self.failed = True
            self.loop.quit()
        elif message.type == Gst.MessageType.ELEMENT and message.get_structure().get_name() == "level":
            for decibels in message.get_structure().get_value("rms"):
                self.energy += 10 ** (decibels / 10) / MEASURES_PER_S

    def on_half_second(self):
        if light := self.pipe.get_by_name("light"):
            light.set_property("pattern", "black" if int(time.time() * 2) % 2 else "white")
        first = self.first and round(self.first * 1_000)
        says("seen", pictures=self.pictures, first_ms=first, levels=len(self.levels), energy=self.energy)
        return True

    def run(self):
        self.pipe.set_state(Gst.State.PLAYING)
        self.loop.run()
        status = asks("DELETE", self.session, **self.more)[0] if self.session else None
        says("left", status=status)
        self.pipe.set_state(Gst.State.NULL)
        return 1 if self.failed else 0


Gst.init(None)
way = sys.argv[1]
sys.exit(Peer(way, sys.argv[2] if way != "room" else None, sys.argv[3] if way == "whip" else None).run())
