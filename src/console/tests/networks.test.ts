/** Media that comes over another network than ours goes over. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { arrived, Networks } from "../client/calls/networks";

test("media over another path than the chosen one says that the network has changed, once for each look", () => {
  const networks = new Networks();
  const look = (over_path: number, elsewhere: number, path = "a") => networks.has_left({ over_path, elsewhere, path });
  assert.equal(look(100, 3), false, "there is nothing to compare with");
  assert.equal(look(140, 3), false);
  assert.equal(look(140, 6), false, "some are late");
  assert.equal(look(140, 6), false, "nothing comes at all: the path is slow or gone, and the engine has not moved");
  assert.equal(look(150, 30), false, "it comes both ways");
  assert.equal(look(150, 60), true);
  assert.equal(look(90, 150, "b"), false, "the browser has moved itself");
  assert.equal(look(120, 150, "b"), false);
  assert.equal(networks.has_left(null), false);
  assert.equal(look(120, 200, "b"), false);
});

test("what is counted is found in the statistics of a connection", () => {
  const all = [
    { id: "t", type: "transport", selectedCandidatePairId: "p" },
    { id: "p", type: "candidate-pair", packetsReceived: 7 },
    { id: "o", type: "candidate-pair", packetsReceived: 90 },
    { id: "q", type: "candidate-pair" },
    { id: "v", type: "inbound-rtp", packetsReceived: 40 },
  ];
  const report = new Map<string, object>(all.map((one) => [one.id, one])) as unknown as RTCStatsReport;
  assert.deepEqual(arrived(report), { path: "p", over_path: 7, elsewhere: 90 });
  assert.equal(arrived(new Map() as unknown as RTCStatsReport), null);
});
