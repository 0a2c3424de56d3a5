// Apollo Client takes the documents as they are.

// region apollo
import { ApolloClient, HttpLink, InMemoryCache } from "@apollo/client";

import possibleTypes from "../../../graphql/possible-types.json" with { type: "json" };
import { GroupHistoryDocument } from "./gql/graphql.ts";

/** The newest messages of a group. `data` has the types of the document, and so have its variables. */
export async function newest(url: string, token: string, id: string) {
  const link = new HttpLink({ uri: url, headers: { authorization: `Bearer ${token}` } });
  const client = new ApolloClient({ link, cache: new InMemoryCache({ possibleTypes }) });
  const { data } = await client.query({ query: GroupHistoryDocument, variables: { id, last: 50 } });
  return data?.group?.messages.edges.map(({ node }) => node) ?? [];
}
// endregion
