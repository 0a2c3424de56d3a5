// A typed chat over fetch and graphql-ws, on what graphql-codegen makes of graphql/.

import type { Client } from "graphql-ws";

import {
  type GroupPartsFragment as Group,
  GroupMessagesDocument,
  type GroupMessagesSubscription,
  type MessagePartsFragment as Message,
  type MyGroupEventsSubscription,
  type PersonFragment as Person,
} from "./gql/graphql.ts";

// region ask
import type { TypedDocumentNode } from "@graphql-typed-document-node/core";
import { print } from "graphql";

export type Session = { url: string; token?: string };

/** What a document asks for, in its types. What was refused is thrown; what is null then does not exist. */
export async function ask<Data, Variables>(
  { url, token }: Session,
  document: TypedDocumentNode<Data, Variables>,
  ...[variables]: Variables extends Record<string, never> ? [] : [Variables]
): Promise<Data> {
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const body = JSON.stringify({ query: print(document), variables });
  const response = await fetch(url, { method: "POST", headers, body });
  const { data, errors } = (await response.json()) as { data: Data; errors?: Refused[] };
  if (errors?.[0]) throw new Refusal(errors[0]);
  return data;
}

type Refused = { message: string; extensions: { code: string; retry?: boolean } };

export class Refusal extends Error {
  code: string;
  retry: boolean;

  constructor({ message, extensions }: Refused) {
    super(message);
    this.code = extensions.code;
    this.retry = extensions.retry ?? false;
  }
}
// endregion

/** What a sender shows before the answer: the message at version 0, which is in nobody's log yet. */
export function draft(sender: Person, content: string, clientMessageId: string = crypto.randomUUID()): Message {
  const now = new Date().toISOString();
  const place = { id: clientMessageId, seq: Infinity, version: 0 };
  return { ...place, sender, content, clientMessageId, createdAt: now, updatedAt: now, editedAt: null, deletedAt: null };
}

/** Keep each message once, whichever of draft, answer, event and page comes first: the higher version stays. */
export function keep(messages: Map<string, Message>, message: Message) {
  const { id, sender, clientMessageId, version } = message;
  const key = clientMessageId ? `${sender.id} ${clientMessageId}` : id;
  if ((messages.get(key)?.version ?? -1) < version) messages.set(key, message);
}

/** In the order of the log, drafts last. */
export const inOrder = (messages: Map<string, Message>) =>
  [...messages.values()].sort((one, other) => (one.seq < other.seq ? -1 : 1));

type Event = GroupMessagesSubscription["groupMessages"];
type Handlers = { onEvent: (event: Event) => void; onEnd: (end: Refusal | CloseEvent) => void };

/** Every event of a group after a position: each once, in order, over any disconnect. Returns how to leave. */
export function follow(client: Client, groupId: string, after: string, { onEvent, onEnd }: Handlers) {
  let leave: () => void;
  let again: ReturnType<typeof setTimeout>;
  const query = print(GroupMessagesDocument);
  // The library sends the same variables for each connection; a getter makes them new.
  const variables = {
    groupId,
    get after() {
      return after;
    },
  };
  const join = (attempt = 0) => {
    leave = client.subscribe<GroupMessagesSubscription>(
      { query, variables },
      {
        next({ data }) {
          const { groupMessages: event } = data!; // a stream that can show no event ends with an error
          attempt = 0;
          after = event.cursor;
          onEvent(event);
        },
        error(problem) {
          const end = Array.isArray(problem) ? new Refusal(problem[0]) : (problem as CloseEvent);
          if (end instanceof Refusal && end.retry) again = setTimeout(join, backoff(attempt), attempt + 1);
          else onEnd(end);
        },
        complete() {},
      },
    );
  };
  join();
  return () => (clearTimeout(again), leave());
}

const backoff = (attempt: number) => Math.min(250 * 2 ** attempt, 30_000) * (0.5 + Math.random());

// region groups
/** The list of groups after an event of MyGroupEvents. In each branch an event has the fields of its type. */
export function apply(groups: Map<string, Group>, event: MyGroupEventsSubscription["myGroupEvents"]) {
  switch (event.__typename) {
    case "GroupsSnapshotEvent":
      groups.clear();
      for (const group of event.groups) groups.set(group.id, group);
      break;
    case "InvitedToGroupEvent":
    case "InvitationEndedEvent":
      break;
    default: // More types will come: take `group` as it is, or drop it.
      if (event.group) groups.set(event.group.id, event.group);
      else groups.delete(event.groupId);
  }
}
// endregion
