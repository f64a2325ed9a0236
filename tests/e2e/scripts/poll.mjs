// node-pop3 as a mail program that leaves mail on the server: `node poll.mjs SETTINGS`.
//
// SETTINGS is JSON: host, port, security, ca_file, user, password, store, seen, and `modules`, the
// folder that node-pop3 is installed in. Each new mail goes into a file of its own in `store`, the
// UIDLs of all so far into the file `seen`.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const set = JSON.parse(readFileSync(process.argv[2], "utf8"));
const Pop3Command = createRequire(join(set.modules, "x"))("node-pop3");
const seen = new Set(
  existsSync(set.seen) ? readFileSync(set.seen, "utf8").split("\n").filter(Boolean) : [],
);
const secure = set.security === "implicit";
const pop = new Pop3Command({
  host: set.host,
  port: set.port,
  user: set.user,
  password: set.password,
  timeout: 60000,
  tls: secure,
  tlsOptions: secure ? { ca: readFileSync(set.ca_file) } : {},
});
for (const [number, uid] of await pop.UIDL()) {
  if (!seen.has(uid)) {
    const mail = await pop.RETR(Number(number));
    writeFileSync(join(set.store, String(seen.size).padStart(6, "0")), mail);
    seen.add(uid);
  }
}
await pop.QUIT();
writeFileSync(set.seen, [...seen].map((uid) => uid + "\n").join(""));
