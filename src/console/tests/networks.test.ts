/** Media that comes over another network than ours goes over. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { arrived, Networks } from "../client/calls/networks";

test("media over another path than the chosen one says that the network has changed, once for each look", () => {
  const networks = new Networks();
  const look = (streams: number, over_path: number, path = "a") => networks.has_left({ streams, over_path, path });
  assert.equal(look(100, 100), false, "there is nothing to compare with");
  assert.equal(look(140, 140), false);
  assert.equal(look(143, 140), false, "some are late");
  assert.equal(look(143, 140), false, "nothing comes at all: the path is slow or gone, and the engine has not moved");
  assert.equal(look(170, 140), true);
  assert.equal(look(200, 30, "b"), false, "the browser has moved itself");
  assert.equal(look(230, 60, "b"), false);
  assert.equal(networks.has_left(null), false);
  assert.equal(look(300, 60, "b"), false);
});

test("what is counted is found in the statistics of a connection", () => {
  const report = new Map<string, object>([
    ["t", { type: "transport", selectedCandidatePairId: "p" }],
    ["p", { type: "candidate-pair", packetsReceived: 7 }],
    ["o", { type: "candidate-pair", packetsReceived: 90 }],
    ["v", { type: "inbound-rtp", packetsReceived: 40 }],
    ["s", { type: "inbound-rtp", packetsReceived: 2 }],
  ]) as unknown as RTCStatsReport;
  assert.deepEqual(arrived(report), { streams: 42, path: "p", over_path: 7 });
  assert.equal(arrived(new Map() as unknown as RTCStatsReport), null);
});
