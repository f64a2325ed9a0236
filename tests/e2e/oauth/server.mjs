// An authorization server: oidc-provider with what tests change while it runs.
// `node server.mjs SETTINGS`.
//
// SETTINGS is JSON: modules (the folder oidc-provider is installed in), clients (as oidc-provider
// takes them), scopes, ready (the file that gets the two ports once both listen), and, for https,
// certificate and private_key. A second listener, the control, takes one JSON object a request;
// see `orders` for what it may say.
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { createRequire } from "node:module";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

const set = JSON.parse(readFileSync(process.argv[2], "utf8"));
const found = createRequire(join(set.modules, "x")).resolve("oidc-provider");
const { default: Provider } = await import(pathToFileURL(found));

let policy = {};
let requests = [];
let canned = [];
let silent = false;
let waiting = [];

// The provider's own store forgets the oldest after a thousand entries.
const entries = new Map();
class Store {
  constructor(kind) {
    this.kind = kind;
  }
  async upsert(id, payload) {
    entries.set(`${this.kind} ${id}`, payload);
  }
  async find(id) {
    return entries.get(`${this.kind} ${id}`);
  }
  async first(holds) {
    return [...entries.values()].find((entry) => entry.kind === this.kind && holds(entry));
  }
  findByUid(uid) {
    return this.first((entry) => entry.uid === uid);
  }
  findByUserCode(code) {
    return this.first((entry) => entry.userCode === code);
  }
  async consume(id) {
    entries.get(`${this.kind} ${id}`).consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) {
    entries.delete(`${this.kind} ${id}`);
  }
  async revokeByGrantId(grant) {
    forget((entry) => entry.kind === this.kind && entry.grantId === grant);
  }
}

function forget(which) {
  for (const [key, entry] of entries) if (which(entry)) entries.delete(key);
}

function build(issuer) {
  const mayRefresh = (client) => policy.refresh_tokens && client.grantTypeAllowed("refresh_token");
  const provider = new Provider(issuer, {
    adapter: Store,
    clients: set.clients,
    scopes: set.scopes,
    features: {
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      introspection: {
        enabled: true,
        // A refresh token is nothing to log in with.
        allowedPolicy: (ctx, client, token) => token.kind === "AccessToken",
      },
      revocation: { enabled: true },
    },
    findAccount: (ctx, name) => ({ accountId: name, claims: () => ({ sub: name }) }),
    extraTokenClaims: (ctx, token) => ({ username: token.accountId, email: token.accountId }),
    // By itself it would want prompt=consent, which is OpenID's and not OAuth's.
    issueRefreshToken: (ctx, client) => mayRefresh(client),
    expiresWithSession: () => false,
    rotateRefreshToken: () => policy.rotate,
    ttl: {
      AccessToken: () => policy.access_token_seconds,
      RefreshToken: () => policy.refresh_token_seconds,
      DeviceCode: () => policy.device_code_seconds,
    },
  });
  provider.use(async (ctx, next) => {
    if (ctx.path !== "/token" || !canned.length) return next();
    const form = new URLSearchParams(await text(ctx.req));
    const { status, body, type } = canned.shift();
    Object.assign(ctx, { status, body, type });
    requests.push({ grant_type: form.get("grant_type"), client_id: null, status });
  });
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.path === "/device/auth" && ctx.status === 200) ctx.body.interval = policy.interval;
    if (ctx.path !== "/token" || !ctx.oidc) return;
    const { grant_type = null } = ctx.oidc.params ?? {};
    const client_id = ctx.oidc.client?.clientId ?? null;
    const { status, body } = ctx;
    requests.push({ grant_type, client_id, status, error: body?.error, scope: body?.scope });
  });
  return provider.callback();
}

let answer;
const front = set.certificate
  ? https.createServer({ cert: readFileSync(set.certificate), key: readFileSync(set.private_key) })
  : http.createServer();
front.on("request", (...exchange) => (silent ? waiting.push(exchange) : answer(...exchange)));
const listening = (server, port) =>
  new Promise((done) => server.listen(port, "127.0.0.1", () => done(server.address().port)));
const port = await listening(front, 0);
answer = build(`http${set.certificate ? "s" : ""}://127.0.0.1:${port}`);

const orders = {
  policy: (fresh) => Object.assign(policy, fresh),
  requests: () => requests,
  forget_requests: () => (requests = []),
  can: (answers) => (canned = answers),
  // kinds: such as Grant, AccessToken, RefreshToken.
  revoke: ({ user, kinds }) =>
    forget((entry) => entry.accountId === user && kinds.includes(entry.kind)),
  // What the user's programs hold: opaque tokens are their own ids.
  tokens: ({ user }) =>
    [...entries.values()]
      .filter((entry) => entry.accountId === user && /^(Access|Refresh)Token$/.test(entry.kind))
      .map((entry) => entry.jti),
  pause: () => (silent = true),
  resume: () => {
    silent = false;
    for (const [request, response] of waiting.splice(0))
      if (!request.socket.destroyed) answer(request, response);
  },
  close: () => {
    front.close();
    front.closeAllConnections();
  },
  open: () => listening(front, port),
};
const control = http.createServer(async (request, response) => {
  const [[order, argument]] = Object.entries(JSON.parse(await text(request)));
  const result = await orders[order](argument);
  response.end(JSON.stringify(result ?? null));
});
const ports = { port, control: await listening(control, 0) };
writeFileSync(`${set.ready}.new`, JSON.stringify(ports));
renameSync(`${set.ready}.new`, set.ready);
