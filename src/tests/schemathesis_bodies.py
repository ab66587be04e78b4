"""Bodies the fuzzer of scripts/schemathesis does not know by itself: session descriptions are text."""

import schemathesis

schemathesis.serializer.alias(["application/sdp", "application/trickle-ice-sdpfrag"], "text/plain")
