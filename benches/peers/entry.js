// What both peers say to everybody when somebody speaks: as long as an entry of Nova, and with the same fields.
let seq = 0;

export function entry(said) {
  seq += 1;
  return {
    type: 'entry',
    conversation: 'conv_01kj0000000000000000000000',
    epoch: 1,
    seq,
    kind: 'message',
    sender: 'user_01kj0000000000000000000000',
    at: new Date().toISOString(),
    client_msg_id: `peer-${String(seq).padStart(48, '0')}`,
    body: { text: said.text },
  };
}

// One line on standard output when it listens, as Nova has it; on standard input's end it is over.
export function ready(server) {
  server.listen(0, '127.0.0.1', 65535, () => {
    console.log(JSON.stringify({ ready: true, http: `127.0.0.1:${server.address().port}` }));
  });
  process.stdin.resume().on('end', () => process.exit(0));
}
