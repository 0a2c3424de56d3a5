// What only the tests ask for: objects by their global id, the other lists as connections, and what happens to groups.

import { graphql } from "relay-runtime";

export const NODE = graphql`
  query refetchNodeQuery($id: ID!) {
    node(id: $id) {
      __typename
      id
      ... on Group {
        name
      }
      ... on Message {
        content
        version
      }
      ... on User {
        firstName
      }
      ... on Membership {
        role
      }
    }
  }
`;

export const MINE = graphql`
  query refetchMineQuery($id: ID!) {
    group(id: $id) {
      name
      viewerMembership {
        id
      }
    }
  }
`;

export const LISTS = graphql`
  query refetchListsQuery {
    myGroups(first: 10) @connection(key: "refetch_myGroups") {
      edges {
        node {
          name
          members(first: 10) @connection(key: "refetch_members") {
            edges {
              node {
                role
                user {
                  username
                }
              }
            }
          }
        }
      }
    }
  }
`;

export const NEWS = graphql`
  subscription refetchNewsSubscription {
    myGroupEvents(snapshot: true) {
      __typename
      group {
        name
      }
      ... on GroupsSnapshotEvent {
        groups {
          name
        }
      }
    }
  }
`;
