// Parley with the library graphql-ws and nothing else. Copy it: it knows no framework.

// region connect
import { createClient } from "graphql-ws";

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const backoff = (attempt) => Math.min(250 * 2 ** attempt, 30_000) * (0.5 + Math.random());

/** A socket that comes back by itself until the token ends. `token` is called for each connection. */
export function connect({ url, token, keepAlive = 10_000, ...options }) {
  let unanswered;
  const client = createClient({
    url,
    connectionParams: () => ({ authorization: `Bearer ${token()}` }),
    // Left alone, the library gives up when a connection is refused, and comes back with a token that has ended.
    shouldRetry: (problem) => problem.code !== 4403,
    retryAttempts: Infinity,
    retryWait: (attempt) => pause(backoff(attempt)),
    // A connection can die without a word, as in a laptop that slept: ask now and then, and give up on silence.
    keepAlive,
    connectionAckWaitTimeout: keepAlive,
    on: {
      ping: (received) => received || (unanswered = setTimeout(() => client.terminate(), keepAlive / 2)),
      pong: (received) => received && clearTimeout(unanswered),
      closed: () => clearTimeout(unanswered),
    },
    ...options,
  });
  return client;
}
// endregion

// region ask
/** The answer to a query or a mutation over the socket. After a lost connection the library asks again by itself. */
export async function ask(client, query, variables) {
  for await (const { data, errors } of client.iterate({ query, variables })) {
    if (errors) throw errors;
    return data;
  }
}
// endregion

// region follow
/**
 * Every event of a group after the position `after`: each once, in order, over any disconnect. Returns how to leave.
 * `onEnd` is told the end's `{ code }`: MEMBERSHIP_ENDED, GROUP_DELETED, SESSION_EXPIRED … or a close code such as 4403.
 */
export function follow(client, query, groupId, after, { onEvent, onEnd }) {
  let leave, again;
  // The library sends the same variables for each connection; a getter makes them new.
  const variables = {
    groupId,
    get after() {
      return after;
    },
  };
  const join = (attempt = 0) => {
    leave = client.subscribe(
      { query, variables },
      {
        next({ data }) {
          attempt = 0;
          after = data.groupMessages.cursor;
          onEvent(data.groupMessages);
        },
        error(problem) {
          const end = Array.isArray(problem) ? problem[0].extensions : problem;
          if (end.retry) again = setTimeout(join, backoff(attempt), attempt + 1);
          else onEnd(end);
        },
        complete() {},
      },
    );
  };
  join();
  return () => (clearTimeout(again), leave());
}
// endregion

// region poll
/** The same events without a subscription. `ask(variables)` runs GroupMessageEvents, over whatever way there is. */
export async function poll(ask, groupId, after, { onEvent, signal, every = 3_000 }) {
  while (!signal.aborted) {
    const { events, cursor, hasMore } = (await ask({ id: groupId, after })).group.messageEvents;
    if (signal.aborted) return;
    events.forEach(onEvent);
    after = cursor;
    if (!hasMore) await pause(every);
  }
}
// endregion

// region keep
/** What a sender shows before the answer: the message at version 0, which is in nobody's log yet. */
export const draft = (sender, content, clientMessageId = crypto.randomUUID()) => ({
  id: clientMessageId,
  version: 0,
  seq: Infinity,
  sender,
  content,
  clientMessageId,
});

/** Keep each message once, whichever of draft, answer, event and page comes first: the higher version stays. */
export function keep(messages, message) {
  const { id, sender, clientMessageId, version } = message;
  const key = clientMessageId ? `${sender.id} ${clientMessageId}` : id;
  if (!(messages.get(key)?.version >= version)) messages.set(key, message);
}

/** In the order of the log, drafts last. */
export const inOrder = (messages) => [...messages.values()].sort((one, other) => (one.seq < other.seq ? -1 : 1));
// endregion
