// Each line with WRONG must fail to compile, and no other.

import { ApolloClient, HttpLink, InMemoryCache } from "@apollo/client";

import { ask, draft, type Session } from "./chat.ts";
import * as documents from "./gql/graphql.ts";

export async function mistakes(session: Session, id: string) {
  const input = { groupId: id, content: "hello" };
  await ask(session, documents.SendGroupMessageDocument, { input });
  await ask(session, documents.SendGroupMessageDocument); // WRONG: no variables
  await ask(session, documents.SendGroupMessageDocument, { input: { ...input, groupId: 7 } }); // WRONG: an id is text
  await ask(session, documents.SendGroupMessageDocument, { input: { groupId: id } }); // WRONG: no content
  await ask(session, documents.GroupHistoryDocument, { id, last: "50" }); // WRONG: a number
  await ask(session, documents.AddMemberDocument, { input: { groupId: id, userId: id, role: "OWNER" } }); // WRONG: no such role
  await ask(session, documents.ViewerDocument, { id }); // WRONG: it takes no variables

  const { group } = await ask(session, documents.GroupHistoryDocument, { id });
  group.messages; // WRONG: there may be no such group
  for (const { node } of group?.messages.edges ?? []) {
    const text: string = node.content;
    const moment: Date = node.createdAt; // WRONG: a moment is text
    const own: string = node.clientMessageId; // WRONG: it may be null
    node.text; // WRONG: no such field
    draft(node.sender.username, text + moment + own); // WRONG: a sender is more than a name
  }

  const { group: page } = await ask(session, documents.GroupMessageEventsDocument, { id, after: "" });
  for (const { kind } of page?.messageEvents.events ?? []) {
    const known: "SENT" | "EDITED" | "DELETED" | "REACTED" = kind; // WRONG: more kinds will come
    if (known) continue;
  }

  const client = new ApolloClient({ link: new HttpLink({ uri: session.url }), cache: new InMemoryCache() });
  await client.query({ query: documents.GroupHistoryDocument, variables: { id } });
  await client.query({ query: documents.GroupHistoryDocument, variables: { group: id } }); // WRONG: no such variable
}
