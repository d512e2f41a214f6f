// A client and a backend that a test drives: one JSON command per line on
// stdin, one JSON event per line on stdout. Every event has the id of what it
// is about: clients have the ids that the test gives them, the sockets that a
// server accepts have negative ones.
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const https = require('https');
const readline = require('readline');
const { WebSocket, WebSocketServer } = require('ws');

const MAX_PAYLOAD = 256 << 20;
const SHOWN = 4096; // characters of a message that an event quotes

const sockets = new Map();
const requests = new Map();
let accepted = 0;

const emit = (id, ev, more) => process.stdout.write(JSON.stringify({ id, ev, ...more }) + '\n');

function watch(id, ws, { echo, quiet }) {
  sockets.set(id, ws);
  ws.on('message', (data, binary) => {
    if (echo) ws.send(data, { binary });
    if (quiet) return;
    const more = { size: data.length, binary };
    if (binary) more.text = data.subarray(0, SHOWN).toString('latin1');
    else more.text = data.toString('utf8').slice(0, SHOWN);
    if (data.length > SHOWN) more.sha256 = crypto.createHash('sha256').update(data).digest('hex');
    emit(id, 'message', more);
  });
  ws.on('ping', (data) => emit(id, 'ping', { text: data.toString() }));
  ws.on('pong', (data) => emit(id, 'pong', { text: data.toString() }));
  ws.on('error', (err) => emit(id, 'error', { text: String(err.message) }));
  ws.on('close', (code, reason) => emit(id, 'close', { code, text: reason.toString() }));
}

function head(res) {
  const headers = {};
  for (let i = 0; i < res.rawHeaders.length; i += 2) {
    (headers[res.rawHeaders[i].toLowerCase()] ||= []).push(res.rawHeaders[i + 1]);
  }
  return headers;
}

// payload is what a command wants sent: text, or size bytes of a pattern.
function payload(c) {
  if (c.size === undefined) return c.binary ? Buffer.from(c.text, 'latin1') : c.text;
  const prefix = Buffer.from(c.text || '');
  const suffix = Buffer.from(c.suffix || '');
  const b = Buffer.alloc(c.size, 'x');
  prefix.copy(b);
  suffix.copy(b, c.size - suffix.length);
  return c.binary ? b : b.toString();
}

const commands = {
  dial(c) {
    const ws = new WebSocket(c.url, c.protocols || [], {
      headers: c.headers || {},
      perMessageDeflate: c.deflate !== false,
      rejectUnauthorized: false,
      maxPayload: MAX_PAYLOAD,
      autoPong: c.autoPong !== false,
      localAddress: c.localAddress,
    });
    ws.on('upgrade', (res) => { ws.answer = head(res); });
    ws.on('open', () => emit(c.id, 'open', { protocol: ws.protocol, extensions: ws.extensions, headers: ws.answer }));
    ws.on('unexpected-response', (req, res) => {
      const parts = [];
      res.on('data', (d) => parts.push(d));
      res.on('end', () => emit(c.id, 'refused', { status: res.statusCode, headers: head(res), text: Buffer.concat(parts).toString() }));
    });
    watch(c.id, ws, c);
  },

  // serve starts a backend: /refuse is answered 401 with a body of c.size bytes.
  serve(c) {
    const wss = new WebSocketServer({
      noServer: true,
      maxPayload: MAX_PAYLOAD,
      perMessageDeflate: true,
      autoPong: c.autoPong !== false,
      handleProtocols: (offered) => (c.protocol && offered.has(c.protocol) ? c.protocol : false),
    });
    const server = c.key
      ? https.createServer({ key: fs.readFileSync(c.key), cert: fs.readFileSync(c.cert) })
      : http.createServer();
    server.on('request', (req, res) => {
      res.setHeader('X-Backend', 'node');
      res.end(JSON.stringify({ method: req.method, url: req.url, headers: head(req) }));
    });
    server.on('upgrade', (req, socket, rest) => {
      if (req.url.startsWith('/refuse')) {
        const body = 'no'.repeat(c.size / 2);
        socket.end(`HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm="x"\r\nX-Why: because\r\n` +
          `Content-Type: text/x-why\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`);
        return;
      }
      wss.handleUpgrade(req, socket, rest, (ws) => {
        const peer = --accepted;
        emit(c.id, 'connection', { peer, url: req.url, headers: head(req) });
        watch(peer, ws, c);
      });
    });
    server.listen(0, '127.0.0.1', () => emit(c.id, 'listening', { port: server.address().port }));
  },

  send(c) { sockets.get(c.id).send(payload(c), { binary: !!c.binary }); },

  // fragments sends one message in several frames.
  fragments(c) {
    c.parts.forEach((part, i) => sockets.get(c.id).send(part, { binary: false, fin: i === c.parts.length - 1 }));
  },

  // fragment sends one frame of a message.
  fragment(c) { sockets.get(c.id).send(c.text, { binary: false, fin: !!c.fin }); },

  // flood sends count messages whose ids count up and whose types take turns.
  flood(c) {
    const ws = sockets.get(c.id);
    const pad = 'x'.repeat(c.size || 0);
    for (let i = 0; i < c.count; i++) {
      const last = i === c.count - 1;
      ws.send(JSON.stringify({ type: c.types[i % c.types.length], id: c.from + i, pad }), last ? () => emit(c.id, 'flooded') : undefined);
    }
  },

  ping(c) { sockets.get(c.id).ping(c.text); },
  pong(c) { sockets.get(c.id).pong(c.text); },
  pause(c) { sockets.get(c.id).pause(); emit(c.id, 'paused'); },
  resume(c) { sockets.get(c.id).resume(); },
  close(c) { sockets.get(c.id).close(c.code, c.text); },
  terminate(c) { sockets.get(c.id).terminate(); },

  // http asks with Node's own client; every chunk of the answer is an event.
  http(c) {
    const client = c.url.startsWith('https:') ? https : http;
    const req = client.request(c.url, { method: c.method || 'GET', headers: c.headers, rejectUnauthorized: false, agent: false }, (res) => {
      emit(c.id, 'response', { status: res.statusCode, headers: head(res) });
      res.on('data', (d) => emit(c.id, 'chunk', { text: d.toString('latin1') }));
      res.on('end', () => emit(c.id, 'end', { headers: lower(res.trailers) }));
      res.on('error', (err) => emit(c.id, 'error', { text: err.code || err.message }));
    });
    req.on('continue', () => emit(c.id, 'continue'));
    req.on('error', (err) => { if (!req.res) emit(c.id, 'error', { text: err.code || err.message }); });
    requests.set(c.id, req);
    if (c.open) req.flushHeaders();
    else req.end(c.text);
  },
  write(c) { requests.get(c.id).write(c.text); },
  end(c) { requests.get(c.id).end(c.text); },
  abort(c) { requests.get(c.id).destroy(); },
};

function lower(trailers) {
  const headers = {};
  for (const [name, value] of Object.entries(trailers)) headers[name.toLowerCase()] = [value];
  return headers;
}

readline.createInterface({ input: process.stdin })
  .on('line', (line) => { const c = JSON.parse(line); commands[c.op](c); })
  .on('close', () => process.exit(0));
