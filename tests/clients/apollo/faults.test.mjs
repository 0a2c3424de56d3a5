import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import net from "node:net";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import { eventually } from "../harness/index.mjs";
import { CREATE_GROUP, GROUP_HISTORY, REGISTER } from "./documents.mjs";
import { createParley, live, send } from "./parley.mjs";

const PACE = 400; // milliseconds between two messages of a person
const LONGEST = 10_000; // milliseconds that a message may take from one person's hand to the other's eye
const ROOT = fileURLToPath(new URL("../../..", import.meta.url));

const complaints = [];
for (const level of ["warn", "error"]) console[level] = (...words) => complaints.push(words);

/** Two nodes on PostgreSQL and Redis: their `ports`, and `tell("kill redis")`, which returns when that is done. */
async function nodes() {
  const process_ = spawn(process.env.PARLEY_PYTHON, ["-m", "tests.clients.nodes"], {
    cwd: ROOT,
    stdio: ["pipe", "pipe", "inherit"],
  });
  after(() => process_.stdin.end());
  const lines = createInterface({ input: process_.stdout })[Symbol.asyncIterator]();
  const { ports } = JSON.parse((await lines.next()).value);
  const tell = async (line) => {
    process_.stdin.write(`${line}\n`);
    assert.equal((await lines.next()).value, line);
  };
  return { ports, tell };
}

/** A load balancer: every new connection goes to the first of these ports that takes it. */
async function front(...ports) {
  const carry = (near, [port, ...others]) => {
    let taken = false;
    const far = net.connect(port, "127.0.0.1", () => ((taken = true), near.pipe(far).pipe(near)));
    far.on("error", () => {}).on("close", () => (taken || !others.length ? near.destroy() : carry(near, others)));
    near.on("error", () => {}).on("close", () => far.destroy());
  };
  const server = net.createServer((near) => carry(near, ports));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  after(() => server.close());
  return `http://127.0.0.1:${server.address().port}/graphql`;
}

/** Somebody with a client: what they typed and when, what they saw of others and when, and what was amiss. */
class Person {
  typed = new Map();
  seen = new Map();
  lines = [];
  amiss = [];

  static async register(url, username) {
    const input = { username, password: "correct horse", firstName: username, lastName: "Test" };
    const visitor = createParley({ url });
    const { data } = await visitor.client.mutate({ mutation: REGISTER, variables: { input } });
    visitor.close();
    const { viewer, token } = data.register;
    const person = Object.assign(new Person(), { username, viewer }, createParley({ url, token }));
    after(() => person.leave());
    return person;
  }

  open(group) {
    const tell = (error) => this.amiss.push(`told: ${error.message}`);
    this.client
      .watchQuery({ query: GROUP_HISTORY, variables: { id: group }, fetchPolicy: "cache-only" })
      .subscribe(({ data, dataState }) => dataState === "complete" && this.look(data.group.messages.edges));
    const events = live(this.client, group).subscribe({ error: tell });
    const typing = setInterval(() => {
      const content = `${this.username} ${this.typed.size}`;
      this.typed.set(content, Date.now());
      send(this.client, this.viewer, group, content).catch(tell);
    }, PACE);
    this.rest = () => clearInterval(typing);
    this.leave = () => (this.rest(), events.unsubscribe(), this.close());
  }

  /** What a person notices on the page: a line twice, a line gone, somebody's lines in another order than typed. */
  look(edges) {
    const before = this.lines;
    this.lines = edges.map(({ node }) => node.content);
    const now = new Set(this.lines);
    if (now.size < this.lines.length) this.amiss.push(`twice: ${this.lines}`);
    for (const line of before) if (!now.has(line)) this.amiss.push(`gone: ${line}`);
    const last = {};
    for (const { node } of edges) {
      const [who, number] = node.content.split(" ");
      if (Number(number) !== (last[who] ?? -1) + 1) this.amiss.push(`out of order: ${node.content}`);
      last[who] = Number(number);
      if (who !== this.username && !this.seen.has(node.content)) this.seen.set(node.content, Date.now());
    }
  }
}

/** Every message of the log. */
async function log(client, id) {
  const contents = [];
  for (let [after, hasNextPage] = [null, true]; hasNextPage; ) {
    const variables = { id, first: 100, after };
    const { data } = await client.query({ query: GROUP_HISTORY, variables, fetchPolicy: "no-cache" });
    const { edges, pageInfo } = data.group.messages;
    contents.push(...edges.map(({ node }) => node.content));
    ({ endCursor: after, hasNextPage } = pageInfo);
  }
  return contents;
}

// Engines and nodes take their time to start.
const BOUND = { timeout: 150_000 };

test("who chats while Redis, PostgreSQL and a node are killed notices a short delay at most", BOUND, async () => {
  const { ports, tell } = await nodes();
  const ada = await Person.register(await front(ports[0], ports[1]), "ada");
  const bob = await Person.register(await front(ports[1], ports[0]), "bob");
  const both = [
    [ada, bob],
    [bob, ada],
  ];
  const input = { name: "Chess", memberIds: [bob.viewer.id] };
  const { data } = await ada.client.mutate({ mutation: CREATE_GROUP, variables: { input } });
  const id = data.createGroup.group.id;
  for (const [person] of both) person.open(id);

  const typed = async (more) => {
    const goals = both.map(([person]) => person.typed.size + more);
    await eventually(() => both.every(([{ typed }], number) => typed.size >= goals[number]), `${more} more were typed`);
  };
  const seen = async () => {
    const goals = both.map(([{ typed }]) => [...typed.keys()].at(-1));
    await eventually(() => both.every(([, other], number) => other.seen.has(goals[number])), "what was typed was seen", 30);
  };
  const chat = async (what) => {
    const from = both.map(([{ typed }]) => typed.size);
    await what();
    await typed(4);
    await seen();
    return Math.max(
      ...both.flatMap(([{ typed }, { seen }], number) =>
        [...typed].slice(from[number]).flatMap(([line, at]) => (seen.has(line) ? seen.get(line) - at : [])),
      ),
    );
  };

  const longest = {
    "nothing is killed": await chat(async () => {}),
    "Redis is dead": await chat(() => tell("kill redis")),
    "Redis is back": await chat(() => tell("start redis")),
    "PostgreSQL is killed": await chat(async () => {
      await tell("kill postgres");
      await typed(4);
      await tell("start postgres");
    }),
    "a node is killed": await chat(() => tell("kill one")),
  };
  for (const [person] of both) person.rest();
  await seen();

  for (const [when, wait] of Object.entries(longest)) {
    console.log(`from typed to seen, while ${when}: ${wait} ms at most`);
    assert.ok(wait < LONGEST, when);
  }
  const whole = await log(bob.client, id);
  assert.equal(whole.length, ada.typed.size + bob.typed.size);
  for (const [person] of both) {
    await eventually(() => String(person.lines) === String(whole), `${whole}, not ${person.lines},`);
    assert.deepEqual(person.amiss, []);
  }
  assert.deepEqual(complaints, []);
});
