// A real OpenID Provider with RFC 7591/7592 on loopback, for tests. Everything it needs to know is in its environment:
//
//   PORT                   where to listen on 127.0.0.1
//   ISSUER                 the issuer's URL, if clients reach it under another one (default: http://127.0.0.1:PORT)
//   INITIAL_ACCESS_TOKEN   the bearer token that POST /reg wants
//   REQUEST_LOG            a file: one JSON line {method, path, status} a request, written before its answer is sent
//   SCOPES                 the scopes it knows, separated by spaces
//   ROTATE_REGISTRATION_TOKEN   "false": a PUT keeps the registration access token
//
// /inspect/clients[/{id}] is the tests' back door to the stored clients: GET, PATCH (null removes a member), DELETE.

import { appendFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import Provider from 'oidc-provider';

const { PORT, INITIAL_ACCESS_TOKEN, REQUEST_LOG } = process.env;
const issuer = process.env.ISSUER ?? `http://127.0.0.1:${PORT}`;
const scopes = (process.env.SCOPES ?? 'openid offline_access bookings.read bookings.write api:read').split(' ');
const rotateRegistrationAccessToken = process.env.ROTATE_REGISTRATION_TOKEN !== 'false';

/** model name → id → what the provider keeps; expiry and grants are of no interest to a short test. */
const stored = new Map();

class Store {
  constructor(model) {
    if (!stored.has(model)) stored.set(model, new Map());
    this.entries = stored.get(model);
  }

  async upsert(id, payload) { this.entries.set(id, payload); }
  async find(id) { return this.entries.get(id); }
  async findByUid(uid) { return [...this.entries.values()].find((payload) => payload.uid === uid); }
  async findByUserCode() { return undefined; }
  async consume(id) { this.entries.get(id).consumed = Math.floor(Date.now() / 1000); }
  async destroy(id) { this.entries.delete(id); }
  async revokeByGrantId() {}
}

const provider = new Provider(issuer, {
  adapter: Store,
  scopes,
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    registration: { enabled: true, initialAccessToken: INITIAL_ACCESS_TOKEN },
    registrationManagement: { enabled: true, rotateRegistrationAccessToken },
  },
});

const clients = new Store('Client').entries;

function reply(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}

function merged(client, changes) {
  return Object.fromEntries(Object.entries({ ...client, ...changes }).filter(([, value]) => value !== null));
}

async function inspect(request, response, id) {
  if (id === undefined) return reply(response, 200, [...clients.values()]);
  if (!clients.has(id)) return reply(response, 404, { error: `no client ${id}` });
  switch (request.method) {
    case 'GET':
      return reply(response, 200, clients.get(id));
    case 'PATCH':
      clients.set(id, merged(clients.get(id), await json(request)));
      return reply(response, 200, clients.get(id));
    case 'DELETE':
      clients.delete(id);
      return reply(response, 204);
    default:
      return reply(response, 405, { error: 'GET, PATCH or DELETE' });
  }
}

/** In `end`, since whoever has seen the answer may look for it in the log at once. */
function logWhenAnswered(request, response, path) {
  const end = response.end.bind(response);
  response.end = (...args) => {
    response.end = end;
    appendFileSync(REQUEST_LOG, `${JSON.stringify({ method: request.method, path, status: response.statusCode })}\n`);
    return end(...args);
  };
}

const answer = provider.callback();

createServer((request, response) => {
  const path = request.url.split('?')[0];
  const [, inspected] = /^\/inspect\/clients(?:\/(.+))?$/.exec(path) ?? [];
  if (path.startsWith('/inspect/clients')) {
    inspect(request, response, inspected && decodeURIComponent(inspected))
      .catch((error) => reply(response, 400, { error: error.message }));
  } else {
    logWhenAnswered(request, response, path);
    answer(request, response);
  }
}).listen(Number(PORT), '127.0.0.1', () => {
  writeFileSync(REQUEST_LOG, '');
  console.log(`oidc-provider ready at http://127.0.0.1:${PORT}`);
});
