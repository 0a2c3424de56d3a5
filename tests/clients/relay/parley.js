// Relay with fetch and graphql-ws: what docs/clients.md shows.

// region connect
import { createClient } from "graphql-ws";
import {
  commitLocalUpdate,
  ConnectionHandler,
  DefaultHandlerProvider,
  Environment,
  graphql,
  Network,
  Observable,
  RecordSource,
  Store,
} from "relay-runtime";

/**
 * The environment of one log-in, or of a visitor without a token. The next log-in gets an environment of its own: an
 * answer that is still on its way then lands in the store of the one who asked. `onSignedOut` is called when the token
 * has ended. Where no socket gets through, `poll` says every how many milliseconds to ask for events.
 */
export function createParley({ url, token, onSignedOut = () => {}, keepAlive = 10_000, poll = null }) {
  const authorization = token ? { authorization: `Bearer ${token}` } : {};
  const headers = { "content-type": "application/json", ...authorization };
  const closing = new AbortController();
  let silence, isOver;
  const over = () => isOver || ((isOver = true), onSignedOut());
  const socket = createClient({
    url: url.replace(/^http/, "ws"),
    connectionParams: authorization,
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
  const post = async ({ text: query }, variables) => {
    const body = JSON.stringify({ query, variables });
    const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(30_000)]);
    const { data, errors } = await (await fetch(url, { method: "POST", headers, body, signal })).json();
    // Root fields are nullable: without this, Relay takes what was refused for what does not exist.
    if (errors) throw new Refusal(errors);
    return { data: newest(data) };
  };
  const newest = (data) => withNewest(data, environment.getStore().getSource());
  const subscribe = poll ? polling(post, poll, closing.signal) : streaming(socket, newest, over);
  const network = Network.create(inTurn(post, closing.signal), subscribe);
  const environment = new Environment({ network, handlerProvider, store: new Store(new RecordSource()) });
  // The library complains when it is told so while it is looking for a connection.
  return { environment, close: () => (closing.abort(), socket.dispose().catch(() => {})) };
}

/** What the server refused, with the `code` and the other extensions. */
export class Refusal extends Error {
  constructor([{ message, extensions }]) {
    super(message);
    Object.assign(this, extensions);
  }
}

const isFinal = (error) => error instanceof Refusal && !error.retry;
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const backoff = (attempt) => Math.min(250 * 2 ** attempt, 30_000) * (0.5 + Math.random());
// endregion

// region documents
/** What opens a group: the newest page, the position that belongs to it, and you, as the sender of drafts. */
export const GROUP = graphql`
  query parleyGroupQuery($id: ID!) {
    viewer {
      ...parley_person
    }
    group(id: $id) {
      ...parley_messages
      # Not in the fragment: there each older page would move it on.
      messages(last: 50) {
        headCursor
      }
    }
  }
`;

export const MESSAGES = graphql`
  fragment parley_messages on Group
  @refetchable(queryName: "parleyOlderQuery")
  @argumentDefinitions(count: { type: "Int", defaultValue: 50 }, cursor: { type: "String" }) {
    id
    messages(last: $count, before: $cursor) @connection(key: "parley_messages") {
      edges {
        node {
          id
          seq
          ...parley_message
        }
      }
    }
  }
`;

export const MESSAGE = graphql`
  fragment parley_message on Message {
    id
    seq
    version
    content
    clientMessageId
    createdAt
    reactions {
      emoji
      count
    }
    sender {
      ...parley_person
    }
  }
`;

export const PERSON = graphql`
  fragment parley_person on User {
    id
    username
    displayName
  }
`;

/** The messages of an open group in the order of the log, drafts last. Answers and events may come in any order. */
export const inOrder = ({ edges }) => edges.map(({ node }) => node).sort((one, other) => one.seq - other.seq);
// endregion

// region list
/**
 * What Relay does with a page and with `@appendEdge`, and two things more for the messages of a group. A newest page
 * takes the place of the list, but not of what is newer than itself: that came while the page was under way. And what
 * lies before the list is not added to its end: it comes with an older page.
 */
const handlerProvider = (handle) =>
  ({ connection: { update: page }, appendEdge: { update: append } })[handle] ?? DefaultHandlerProvider(handle);

function page(store, payload) {
  if (payload.handleKey !== "__parley_messages_connection" || payload.args.before)
    return ConnectionHandler.update(store, payload);
  const edges = () => store.get(listOf(payload.dataID))?.getLinkedRecords("edges") ?? [];
  const held = edges();
  ConnectionHandler.update(store, payload);
  const newer = held.filter((edge) => !(seq(edge) <= seq(edges().at(-1))));
  store.get(listOf(payload.dataID)).setLinkedRecords([...edges(), ...newer], "edges");
}

function append(store, payload) {
  const edge = store.get(payload.dataID).getLinkedRecord(payload.fieldKey);
  const hasPrevious = (list) => list.getLinkedRecord("pageInfo").getValue("hasPreviousPage");
  const takes = (list) => list && !(hasPrevious(list) && seq(edge) < seq(list.getLinkedRecords("edges")[0]));
  const connections = payload.handleArgs.connections.filter((id) => takes(store.get(id)));
  DefaultHandlerProvider("appendEdge").update(store, { ...payload, handleArgs: { connections } });
}

const listOf = (groupId) => ConnectionHandler.getConnectionID(groupId, "parley_messages");
const seq = (edge) => edge?.getLinkedRecord("node").getValue("seq");

/** Before a group is begun anew, because its position means nothing any more: drop what is held of it. */
export const forget = (environment, groupId) =>
  commitLocalUpdate(environment, (store) => store.get(listOf(groupId)).setLinkedRecords([], "edges"));
// endregion

// region send
export const SEND = graphql`
  mutation parleySendMutation($input: SendGroupMessageInput!, $connections: [ID!]!) {
    sendGroupMessage(input: $input) {
      messageEdge @appendEdge(connections: $connections) {
        cursor
        node {
          ...parley_message
        }
      }
    }
  }
`;

/** What to hand to `commitMutation`, or to the function of `useMutation(SEND)`. Its `onError` is told a `Refusal`. */
export const sending = (groupId, content, clientMessageId = crypto.randomUUID()) => ({
  mutation: SEND,
  variables: { input: { groupId, content, clientMessageId }, connections: [listOf(groupId)] },
  // Relay does this again after each change of the store, until the answer is there. So the draft goes the moment that
  // its message is in the list, whether by the answer or by the event.
  optimisticUpdater: (store) => draft(store, groupId, content, clientMessageId),
});

/** Show a message at version 0 and at the end of the list, unless the list has the message already. */
function draft(store, groupId, content, clientMessageId) {
  const list = store.get(listOf(groupId));
  const sender = store.getRoot().getLinkedRecord("viewer");
  const isIt = (node) =>
    node.getValue("clientMessageId") === clientMessageId &&
    node.getLinkedRecord("sender").getDataID() === sender.getDataID();
  if (!list || !sender || list.getLinkedRecords("edges").some((edge) => isIt(edge.getLinkedRecord("node")))) return;
  const id = `client:${clientMessageId}`;
  const [createdAt, seq] = [new Date().toISOString(), Number.MAX_SAFE_INTEGER];
  const message = store.create(id, "Message").setLinkedRecord(sender, "sender").setLinkedRecords([], "reactions");
  const parts = { id, seq, version: 0, content, clientMessageId, createdAt };
  for (const [name, value] of Object.entries(parts)) message.setValue(value, name);
  ConnectionHandler.insertEdgeAfter(list, ConnectionHandler.createEdge(store, list, message, "MessageEdge"));
}

/**
 * The network's way for queries and mutations. Sends go one after the other, because of two requests at once either may
 * arrive first; each is repeated until it is answered, and is in the log once however often it comes.
 */
function inTurn(post, closed) {
  const deliver = async (operation, variables) => {
    for (let attempt = 0; ; attempt++) {
      try {
        return await post(operation, variables);
      } catch (error) {
        if (isFinal(error) || closed.aborted) throw error;
        await pause(backoff(attempt));
      }
    }
  };
  let turn = Promise.resolve();
  return (operation, variables) => {
    if (!variables.input?.clientMessageId) return post(operation, variables);
    const answer = turn.then(() => deliver(operation, variables));
    turn = answer.catch(() => {});
    return answer;
  };
}
// endregion

// region follow
export const EVENTS = graphql`
  subscription parleyEventsSubscription($groupId: ID!, $after: String!, $connections: [ID!]!) {
    groupMessages(groupId: $groupId, after: $after) {
      cursor
      messageEdge @appendEdge(connections: $connections) {
        cursor
        node {
          ...parley_message
        }
      }
    }
  }
`;

/** What to hand to `requestSubscription` or `useSubscription`: every event after a position, over any disconnect. */
export const following = (groupId, after) => ({
  subscription: EVENTS,
  variables: { groupId, after, connections: [listOf(groupId)] },
});
// endregion

// region resume
/** The network's way for subscriptions. They go on after the last event that came: `after` is read anew each time. */
const streaming =
  (socket, newest, over) =>
  ({ text: query }, given) =>
    Observable.create((sink) => {
      let { after } = given;
      let leave, again;
      const variables = {
        ...given,
        get after() {
          return after;
        },
      };
      const join = (attempt = 0) => {
        const next = ({ data, errors }) => {
          if (!data) return sink.error(new Refusal(errors));
          attempt = 0;
          after = data.groupMessages?.cursor ?? after;
          sink.next({ data: newest(data) });
        };
        const error = (problem) => {
          const end = Array.isArray(problem) ? new Refusal(problem) : problem;
          // Whichever is heard first: this, or the 4403 with which the socket closes.
          if (end.code === "SESSION_EXPIRED") over();
          if (end.retry) again = setTimeout(join, backoff(attempt), attempt + 1);
          else sink.error(end);
        };
        leave = socket.subscribe({ query, variables }, { next, error, complete: sink.complete });
      };
      join();
      return () => (clearTimeout(again), leave());
    });
// endregion

// region newest
/** Relay keeps the copy that came last; of a message the newest must stay. What is older takes on what the store has. */
function withNewest(data, source) {
  if (typeof data !== "object" || data === null) return data;
  const held = source.get(data.id);
  const newer = held?.version > data.version ? held : {};
  for (const [name, value] of Object.entries(data)) {
    // A list of what has no id, such as the reactions, is a part of the copy as well.
    const list = Array.isArray(value) && !value.some((each) => each?.id) && newer[name]?.__refs;
    if (list) data[name] = list.map((part) => ({ ...source.get(part) }));
    else data[name] = isScalar(value) && isScalar(newer[name]) ? newer[name] : withNewest(value, source);
  }
  return data;
}

const isScalar = (value) => value !== undefined && Object(value) !== value;
// endregion

// region poll
const PAGE = graphql`
  query parleyPageQuery($groupId: ID!, $after: String!) {
    group(id: $groupId) {
      messageEvents(after: $after) {
        # What is selected in EVENTS, where it goes to.
        events {
          cursor
          messageEdge {
            cursor
            node {
              ...parley_message
            }
          }
        }
        cursor
        hasMore
      }
    }
  }
`;

/** The same events in the place of `streaming`, asked for every so many milliseconds. */
const polling =
  (post, every, closed) =>
  (_, { groupId, after }) =>
    Observable.create((sink) => {
      const ask = async () => {
        let attempt = 0;
        while (!sink.closed && !closed.aborted) {
          try {
            const { data } = await post(PAGE.params, { groupId, after });
            const { events, cursor, hasMore } = data.group.messageEvents;
            for (const event of events) sink.next({ data: { groupMessages: event } });
            [after, attempt] = [cursor, 0];
            if (!hasMore) await pause(every);
          } catch (error) {
            if (isFinal(error)) return sink.error(error);
            await pause(backoff(attempt++));
          }
        }
      };
      ask();
    });
// endregion
