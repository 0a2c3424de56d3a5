// Parley with Apollo Client 4. Copy it together with documents.mjs: it knows no framework.

// region connect
import { ApolloClient, ApolloLink, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { createClient } from "graphql-ws";
import { defer, map, mergeMap, repeat, retry, tap, timer } from "rxjs";

import possibleTypes from "../../../graphql/possible-types.json" with { type: "json" };
import {
  ADD_REACTION,
  GROUP_HISTORY,
  GROUP_MESSAGE_EVENTS,
  GROUP_MESSAGES,
  MY_GROUP_EVENTS,
  MY_GROUPS,
  REMOVE_REACTION,
  SEND_GROUP_MESSAGE,
} from "./documents.mjs";

/**
 * The client of one log-in, or of a visitor without a token. The next log-in gets a client of its own: an answer that
 * is still on its way then lands in the cache of the one who asked. `onSignedOut` is called when the token has ended.
 */
export function createParley({ url, token, onSignedOut = () => {}, keepAlive = 10_000 }) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const closing = new AbortController();
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
  const link = ApolloLink.split(
    ({ operationType }) => operationType === "subscription",
    resume.concat(new GraphQLWsLink(socket)),
    repeated(closing.signal).concat(new HttpLink({ uri: url, headers })),
  );
  // The library closes a socket whose last stream has ended, and then does not hear why the server would have done so.
  const hears = new ApolloLink((operation, forward) =>
    forward(operation).pipe(tap({ error: (error) => refusal(error)?.code === "SESSION_EXPIRED" && over() })),
  );
  const cache = new InMemoryCache({ possibleTypes, typePolicies });
  const client = new ApolloClient({ link: ApolloLink.from([newest(cache), hears, link]), cache });
  // The library complains when it is told so while it is looking for a connection.
  return { client, close: () => (closing.abort(), client.stop(), socket.dispose().catch(() => {})) };
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const backoff = (attempt) => Math.min(250 * 2 ** attempt, 30_000) * (0.5 + Math.random());
const refusal = (error) => (CombinedGraphQLErrors.is(error) ? error.errors[0].extensions : null);
const mayPass = (error) => (refusal(error) ? refusal(error).retry : !(error.statusCode < 500));
const raise = (error) => {
  throw error;
};
// endregion

// region repeat
/**
 * Asks again, for about 40 seconds, while the server cannot be reached or says that it cannot answer now. A send that is
 * repeated is in the log once, by its clientMessageId. Of another mutation nobody knows whether it was done.
 */
const repeated = (closed) =>
  new ApolloLink((operation, forward) => {
    const { operationType, variables } = operation;
    if (operationType === "mutation" && !variables.input?.clientMessageId) return forward(operation);
    const delay = (error, count) =>
      mayPass(error) && !closed.aborted ? timer(Math.min(backoff(count - 1), 5_000)) : raise(error);
    return defer(() => forward(operation)).pipe(
      tap(({ errors }) => errors?.[0].extensions?.retry && raise(new CombinedGraphQLErrors({ errors }))),
      retry({ count: 12, delay }),
    );
  });
// endregion

// region resume
/** A stream goes on after the last event that came: on a new connection, and where the server asks to come again. */
const resume = new ApolloLink((operation, forward) => {
  let { after } = operation.variables;
  // graphql-ws sends the variables anew for each connection. Apollo copies those of an application; these it does not.
  operation.variables = {
    ...operation.variables,
    get after() {
      return after;
    },
  };
  return forward(operation).pipe(
    tap(({ data }) => (after = data?.groupMessages?.cursor ?? after)),
    retry({
      delay: (error, count) => (refusal(error)?.retry ? timer(backoff(count)) : raise(error)),
      resetOnSuccess: true,
    }),
  );
});
// endregion

// region cache
/**
 * Group.messages in the cache: one list in the order of the log, whichever way its messages came. Of two copies of one
 * message the higher version stays. A draft is its message at version 0, so the message takes exactly its place.
 */
const messages = {
  keyArgs: false, // the newest page first, then older ones
  read: (held, { canRead }) => held && { ...held, edges: held.edges.filter(({ node }) => canRead(node)) },
  merge(held = { edges: [] }, incoming, { args, readField }) {
    const get = (name, edge) => edge && readField(name, edge.node);
    const key = (edge) => {
      const own = get("clientMessageId", edge);
      return own ? `${readField("id", get("sender", edge))} ${own}` : get("id", edge);
    };
    const { edges: came = [], pageInfo } = incoming;
    const drafts = held.edges.filter((edge) => get("version", edge) === 0);
    const sent = held.edges.filter((edge) => get("version", edge) !== 0);
    // A newest page that does not reach down to what is held would hide what lies between: the list begins anew. The
    // answer to a send says nothing about what lies before it: it has no cursor until its event or a page has come.
    const reached = get("seq", sent.findLast(({ cursor }) => cursor));
    const anew = pageInfo?.hasPreviousPage && !args?.before && !(reached >= get("seq", came[0]));
    const kept = new Map();
    // What was edited or deleted before the list begins comes with an older page.
    const isBefore = (edge) => !pageInfo && held.pageInfo?.hasPreviousPage && get("seq", edge) < get("seq", sent[0]);
    for (const edge of [...(anew ? [] : sent), ...drafts, ...came.filter((edge) => !isBefore(edge))]) {
      const other = kept.get(key(edge));
      const isNewer = !other || get("version", other) < get("version", edge);
      if (isNewer || (!other.cursor && get("version", other) === get("version", edge))) kept.set(key(edge), edge);
    }
    const edges = [...kept.values()].sort((one, other) => get("seq", one) - get("seq", other));
    // The list always ends with the newest message, so only its beginning is of interest.
    const start = args?.before || anew || !held.pageInfo ? pageInfo : held.pageInfo;
    return { ...held, edges, pageInfo: start && { ...start, hasNextPage: false } };
  },
};

/** A list of reactions comes whole: the newer takes the place of the older. */
const typePolicies = { Group: { fields: { messages } }, Message: { fields: { reactions: { merge: false } } } };
// endregion

// region newest
const PARTS = SEND_GROUP_MESSAGE.definitions.filter(({ kind }) => kind === "FragmentDefinition");
const MESSAGE = { fragment: { ...SEND_GROUP_MESSAGE, definitions: PARTS }, fragmentName: "MessageParts" };

/** Apollo keeps the copy that came last; of a message the newest must stay. What is older takes on what the cache has. */
function withNewest(cache, value) {
  if (Array.isArray(value)) return value.map((each) => withNewest(cache, each));
  if (Object(value) !== value) return value;
  const held = value.__typename === "Message" && cache.readFragment({ ...MESSAGE, id: cache.identify(value) });
  if (held?.version > value.version) return { ...value, ...held };
  return Object.fromEntries(Object.entries(value).map(([name, below]) => [name, withNewest(cache, below)]));
}

const newest = (cache) =>
  new ApolloLink((operation, forward) =>
    forward(operation).pipe(map(({ data, ...result }) => ({ ...result, data: withNewest(cache, data) }))),
  );
// endregion

// region keep
const ADDED = gql`
  fragment Added on Group {
    messages {
      edges {
        cursor
        node {
          ...MessageParts
        }
      }
    }
  }
`;
const KEPT = { fragment: { ...ADDED, definitions: [...ADDED.definitions, ...PARTS] }, fragmentName: "Added" };

/** Put one message into its group's list: the one way in for drafts, answers and events. */
export function keep(client, groupId, message, cursor = "") {
  // An event may have come between an answer and whoever waited for it.
  const edge = { __typename: "MessageEdge", cursor, node: withNewest(client.cache, message) };
  const data = { __typename: "Group", messages: { __typename: "MessageConnection", edges: [edge] } };
  client.writeFragment({ ...KEPT, id: `Group:${groupId}`, data });
}
// endregion

// region send
/** Show a message at once and send it. `sender` is the viewer, as a query gave it. */
export function send(client, sender, groupId, content, clientMessageId = crypto.randomUUID()) {
  keep(client, groupId, draft(sender, content, clientMessageId));
  return deliver(client, { groupId, content, clientMessageId });
}

/** A message as its sender sees it before the answer: at version 0 and at the end of the list. */
export function draft(sender, content, clientMessageId) {
  const [now, seq] = [new Date().toISOString(), Number.MAX_SAFE_INTEGER];
  const parts = { id: clientMessageId, seq, version: 0, content, clientMessageId, createdAt: now, updatedAt: now };
  return { __typename: "Message", ...parts, editedAt: null, deletedAt: null, reactions: [], sender };
}

/**
 * Bring a draft into the log; it is there once, however often it is sent. Throws what it was refused with, and then the
 * draft is gone. When the server could not be reached the draft stays, for another `deliver`.
 */
export function deliver(client, input) {
  // One after the other: of two requests at once either may arrive first.
  const turn = turns.get(client)?.catch(() => {}) ?? Promise.resolve();
  const delivered = turn.then(() => sent(client, input));
  turns.set(client, delivered);
  return delivered;
}

const turns = new WeakMap();

async function sent(client, input) {
  const mutation = { mutation: SEND_GROUP_MESSAGE, variables: { input }, fetchPolicy: "no-cache" };
  try {
    const { data } = await client.mutate(mutation);
    keep(client, input.groupId, data.sendGroupMessage.message);
  } catch (error) {
    if (!mayPass(error)) client.cache.evict({ id: `Message:${input.clientMessageId}` });
    throw error;
  }
}
// endregion

// region react
/** React to a message; there already, it stays. What the answer says is in the cache, and its event says the same. */
export const react = (client, messageId, emoji, mutation = ADD_REACTION) =>
  client.mutate({ mutation, variables: { input: { messageId, emoji } } });

export const unreact = (client, messageId, emoji) => react(client, messageId, emoji, REMOVE_REACTION);
// endregion

// region follow
/**
 * Fetch the newest page into the cache, or the one before the cursor `before`. The stream position that comes with the
 * newest page is the one to follow from: every query of a group writes its headCursor, so a cached one may be too new.
 */
export async function load(client, groupId, before) {
  const variables = { id: groupId, before };
  const { data } = await client.query({ query: GROUP_HISTORY, variables, fetchPolicy: "network-only" });
  return data.group.headCursor;
}

/** Every event after the position `after`, over any disconnect. Its error says why it ended: MEMBERSHIP_ENDED … */
export function follow(client, groupId, after) {
  const subscription = { query: GROUP_MESSAGES, variables: { groupId, after } };
  return client.subscribe({ ...subscription, fetchPolicy: "no-cache", errorPolicy: "all" }).pipe(
    map(({ data, error }) => data?.groupMessages ?? raise(error)),
    tap(({ message, cursor }) => keep(client, groupId, message, cursor)),
  );
}

/** A group from now on: its newest page, then every event. Begins anew where its position means nothing any more. */
export function live(client, groupId) {
  const anew = (error) => {
    if (!refusal(error)?.code.startsWith("CURSOR_")) throw error;
    client.cache.evict({ id: `Group:${groupId}`, fieldName: "messages" });
    return timer(backoff(0));
  };
  return defer(() => load(client, groupId)).pipe(
    mergeMap((after) => follow(client, groupId, after)),
    retry({ delay: anew }),
  );
}
// endregion

// region poll
/** The same events without a socket, asked for every so many milliseconds. */
export function poll(client, groupId, after, every = 3_000) {
  let wait = every;
  const page = () =>
    client.query({ query: GROUP_MESSAGE_EVENTS, variables: { id: groupId, after }, fetchPolicy: "no-cache" });
  return defer(page).pipe(
    map(({ data }) => data.group.messageEvents),
    tap(({ cursor, hasMore }) => ((after = cursor), (wait = hasMore ? 0 : every))),
    repeat({ delay: () => timer(wait) }),
    retry({ delay: (error) => (mayPass(error) ? timer(every) : raise(error)) }),
    mergeMap(({ events }) => events),
    tap(({ message, cursor }) => keep(client, groupId, message, cursor)),
  );
}
// endregion

// region groups
/** What happens to the viewer's groups. The list of MyGroups in the cache is fetched anew each time, also on coming back. */
export function followGroups(client) {
  const subscription = { query: MY_GROUP_EVENTS, variables: { snapshot: true } };
  return client.subscribe({ ...subscription, fetchPolicy: "no-cache", errorPolicy: "all" }).pipe(
    map(({ data, error }) => data?.myGroupEvents ?? raise(error)),
    tap(({ groupId, group }) => groupId && !group && client.cache.evict({ id: `Group:${groupId}` })),
    tap(() => client.query({ query: MY_GROUPS, fetchPolicy: "network-only" }).catch(() => {})),
  );
}
// endregion
