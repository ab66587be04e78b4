// The plain way with `ws`: what is said is parsed, written once, and sent to every client; dead clients are found by pings.
import { createServer } from 'node:http';
import { WebSocketServer, WebSocket } from 'ws';
import { entry, ready } from './entry.js';

const server = createServer();
const wss = new WebSocketServer({ server, perMessageDeflate: false, clientTracking: true });

wss.on('connection', (socket) => {
  socket.isAlive = true;
  socket.on('pong', () => {
    socket.isAlive = true;
  });
  socket.on('error', () => socket.terminate());
  socket.on('message', (data) => {
    const frame = Buffer.from(JSON.stringify(entry(JSON.parse(data))));
    for (const client of wss.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(frame, { binary: false });
    }
  });
});

setInterval(() => {
  for (const socket of wss.clients) {
    if (!socket.isAlive) socket.terminate();
    else {
      socket.isAlive = false;
      socket.ping();
    }
  }
}, 25_000);

ready(server);
