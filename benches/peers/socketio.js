// The plain way with socket.io: one event in, one event to everybody; WebSocket only, as its documents advise for load.
import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { entry, ready } from './entry.js';

const server = createServer();
const io = new Server(server, { transports: ['websocket'], perMessageDeflate: false, serveClient: false });

io.on('connection', (socket) => {
  socket.on('send', (said) => io.emit('entry', entry(said)));
});

ready(server);
