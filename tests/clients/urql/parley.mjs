// Parley with urql. Copy it together with documents.mjs: it knows no framework.

// region connect
import { Client, fetchExchange, subscriptionExchange } from "@urql/core";
import { retryExchange } from "@urql/exchange-retry";
import { createClient } from "graphql-ws";

import {
  GROUP_HISTORY,
  GROUP_MESSAGE_EVENTS,
  GROUP_MESSAGES,
  MY_GROUP_EVENTS,
  MY_GROUPS,
  SEND_GROUP_MESSAGE,
} from "./documents.mjs";

/**
 * The client of one log-in, or of a visitor without a token. The next log-in gets a client of its own: an answer that
 * is still on its way then reaches nobody else. `onSignedOut` is called when the token has ended; `exchanges` of your
 * own, such as that of the devtools, stand in front.
 */
export function createParley({ url, token, exchanges = [], onSignedOut = () => {}, keepAlive = 10_000 }) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  let silence, isOver;
  const over = () => isOver || ((isOver = true), onSignedOut());
  const socket = createClient({
    url: url.replace(/^http/, "ws"),
    connectionParams: headers,
    // Left alone, the library gives up when a connection is refused, and comes back with a token that has ended.
    shouldRetry: ({ code }) => code !== 4403,
    retryAttempts: Infinity,
    retryWait: (attempt) => pause(backoff(attempt)),
    // A connection can die without a word, as in a laptop that slept: ask now and then, and give up on silence.
    keepAlive,
    connectionAckWaitTimeout: keepAlive,
    on: {
      ping: (received) => received || (silence = setTimeout(() => socket.terminate(), keepAlive / 2)),
      pong: (received) => received && clearTimeout(silence),
      closed: ({ code }) => (clearTimeout(silence), code === 4403 && over()),
    },
  });
  const client = new Client({
    url,
    fetchOptions: { headers },
    preferGetMethod: false, // Left alone, urql asks with GET, which Parley does not answer.
    exchanges: [
      ...exchanges,
      retryExchange({
        // A send that is repeated is in the log once. Of another mutation nobody knows whether it was done.
        retryIf: (error, { kind, variables }) =>
          mayPass(error) && (kind === "query" || variables.input?.clientMessageId),
        maxNumberAttempts: 10,
        initialDelayMs: 250,
        maxDelayMs: 30_000,
      }),
      fetchExchange,
      subscriptionExchange({ forwardSubscription: resuming(socket, over) }),
    ],
  });
  // The library complains when it is told so while it is looking for a connection.
  return { client, close: () => socket.dispose().catch(() => {}) };
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const backoff = (attempt) => Math.min(250 * 2 ** attempt, 30_000) * (0.5 + Math.random());
const mayPass = ({ networkError, graphQLErrors }) => networkError || graphQLErrors[0].extensions.retry;
// endregion

// region resume
/** A stream goes on after the last event that came: on a new connection, and where the server asks to come again. */
const resuming = (socket, over) => (request) => ({
  subscribe(sink) {
    let leave, again;
    let { after } = request.variables;
    // graphql-ws sends the variables anew for each connection; a getter makes them new.
    const variables = {
      ...request.variables,
      get after() {
        return after;
      },
    };
    const join = (attempt = 0) => {
      leave = socket.subscribe(
        { ...request, variables },
        {
          next(result) {
            attempt = 0;
            after = result.data?.groupMessages?.cursor ?? after;
            sink.next(result);
          },
          error(problem) {
            // Whichever is heard first: this, or the 4403 with which the socket closes.
            if (problem[0]?.extensions.code === "SESSION_EXPIRED") over();
            if (problem[0]?.extensions.retry) again = setTimeout(join, backoff(attempt), attempt + 1);
            else sink.error(problem);
          },
          complete: () => sink.complete(),
        },
      );
    };
    join();
    return { unsubscribe: () => (clearTimeout(again), leave()) };
  },
});
// endregion

// region chat
/** An open group. `list` is its messages in the order of the log, drafts last; each change makes a new one. */
export const openChat = (client, viewer, groupId) => ({
  client,
  viewer,
  groupId,
  list: [],
  kept: new Map(),
  watchers: new Set(),
  cursor: null, // everything before this stream position is in the list
  oldest: 0, // the seq that the list begins with; what is older comes with an older page
  pageInfo: null, // of the oldest page
  sending: null,
});

/** Have `watcher` called after each change. Returns how to stop that. */
export function watch({ watchers }, watcher) {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

/** Keep each message once, whichever of draft, answer, event and page comes first: the higher version stays. */
export function keep(chat, ...messages) {
  for (const message of messages) {
    const held = chat.kept.get(keyOf(message));
    if (!(held?.version >= message.version)) chat.kept.set(keyOf(message), message);
  }
  changed(chat);
}

/** Forget the messages that are `gone`. */
function drop(chat, gone) {
  for (const [key, message] of chat.kept) if (gone(message)) chat.kept.delete(key);
  changed(chat);
}

function changed(chat) {
  const shown = [...chat.kept.values()].filter(({ seq }) => seq >= chat.oldest);
  chat.list = shown.sort((one, other) => one.seq - other.seq);
  chat.watchers.forEach((watcher) => watcher());
}

const keyOf = ({ id, sender, clientMessageId }) => (clientMessageId ? `${sender.id} ${clientMessageId}` : id);
// endregion

// region send
/** Show a message at once and send it. */
export function send(chat, content, clientMessageId = crypto.randomUUID()) {
  keep(chat, draft(chat.viewer, content, clientMessageId));
  return deliver(chat, { groupId: chat.groupId, content, clientMessageId });
}

/** A message as its sender sees it before the answer: at version 0 and at the end of the list. */
export function draft(sender, content, clientMessageId) {
  const [now, seq] = [new Date().toISOString(), Number.MAX_SAFE_INTEGER];
  const parts = { id: clientMessageId, seq, version: 0, content, clientMessageId, createdAt: now, updatedAt: now };
  return { ...parts, reactions: [], sender };
}

/**
 * Bring a draft into the log; it is there once, however often it is sent. Throws what it was refused with, and then the
 * draft is gone. When the server could not be reached the draft stays, for another `deliver`.
 */
export function deliver(chat, input) {
  // One after the other: of two requests at once either may arrive first.
  const earlier = Promise.resolve(chat.sending).catch(() => {});
  return (chat.sending = earlier.then(() => attempt(chat, input)));
}

async function attempt(chat, input) {
  const { data, error } = await chat.client.mutation(SEND_GROUP_MESSAGE, { input });
  if (data?.sendGroupMessage) return keep(chat, data.sendGroupMessage.message);
  if (!mayPass(error)) drop(chat, ({ id }) => id === input.clientMessageId); // A message has another id than its draft.
  throw error;
}
// endregion

// region follow
/** Show a group: its newest page, then every event. Returns how to leave; `onEnd` is told why it ended by itself. */
export function live(chat, onEnd, way = follow) {
  let over = false;
  let leave = () => {};
  const begin = async () => {
    if (!chat.cursor) await fetchPage(chat);
    if (!over) leave = way(chat, end);
  };
  const end = async (error) => {
    if (over) return;
    if (!error.graphQLErrors?.[0]?.extensions.code.startsWith("CURSOR_")) return onEnd(error);
    // The position means nothing any more, and neither do the messages that it belongs to.
    chat.cursor = null;
    drop(chat, ({ version }) => version > 0);
    await pause(backoff(0));
    begin().catch(end);
  };
  begin().catch(end);
  return () => ((over = true), leave());
}

/** Fetch the page before what is shown: something to offer while `chat.pageInfo?.hasPreviousPage`. */
export const older = (chat) => fetchPage(chat, chat.pageInfo.startCursor);

async function fetchPage(chat, before) {
  const variables = { id: chat.groupId, before };
  const { data, error } = await chat.client.query(GROUP_HISTORY, variables, { requestPolicy: "network-only" });
  if (!data?.group) throw error;
  const { headCursor, messages } = data.group;
  chat.pageInfo = messages.pageInfo;
  if (!before) chat.cursor = headCursor; // the position that came with the newest page
  chat.oldest = messages.pageInfo.hasPreviousPage ? messages.edges[0].node.seq : 0;
  keep(chat, ...messages.edges.map(({ node }) => node));
}

/** Every event after `chat.cursor`, over any disconnect. Returns how to leave; `onEnd` is told MEMBERSHIP_ENDED … */
export function follow(chat, onEnd) {
  const variables = { groupId: chat.groupId, after: chat.cursor };
  const { unsubscribe } = chat.client.subscription(GROUP_MESSAGES, variables).subscribe(({ data, error }) => {
    // The error first: beside it urql shows the last event once more.
    if (error) return (unsubscribe(), onEnd(error));
    chat.cursor = data.groupMessages.cursor;
    keep(chat, data.groupMessages.message);
  });
  return unsubscribe;
}
// endregion

// region poll
/** The same events without a socket, asked for every so many milliseconds: `live(chat, onEnd, poll)`. */
export function poll(chat, onEnd, every = 3_000) {
  let next, over;
  const ask = async () => {
    const variables = { id: chat.groupId, after: chat.cursor };
    const { data, error } = await chat.client.query(GROUP_MESSAGE_EVENTS, variables, { requestPolicy: "network-only" });
    if (over) return;
    if (error && !mayPass(error)) return onEnd(error);
    const { events = [], cursor = chat.cursor, hasMore = false } = data?.group?.messageEvents ?? {};
    chat.cursor = cursor;
    keep(chat, ...events.map(({ message }) => message));
    next = setTimeout(ask, hasMore ? 0 : every);
  };
  ask();
  return () => ((over = true), clearTimeout(next));
}
// endregion

// region groups
/** What happens to the viewer's groups. Who shows MY_GROUPS gets it anew each time, also after a lost connection. */
export function followGroups(client, onEnd) {
  const { unsubscribe } = client.subscription(MY_GROUP_EVENTS, { snapshot: true }).subscribe(({ error }) => {
    if (error) return (unsubscribe(), onEnd(error));
    client.query(MY_GROUPS, {}, { requestPolicy: "network-only" }).toPromise();
  });
  return unsubscribe;
}
// endregion
