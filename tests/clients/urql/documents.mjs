// The documents of graphql/operations/ that parley.mjs uses; urql takes them as text. Node (with a hook) and esbuild
// import a .graphql file as text; Vite does with `?raw`.

export { default as GROUP_HISTORY } from "../../../graphql/operations/GroupHistory.graphql";
export { default as GROUP_MESSAGE_EVENTS } from "../../../graphql/operations/GroupMessageEvents.graphql";
export { default as GROUP_MESSAGES } from "../../../graphql/operations/GroupMessages.graphql";
export { default as MY_GROUP_EVENTS } from "../../../graphql/operations/MyGroupEvents.graphql";
export { default as MY_GROUPS } from "../../../graphql/operations/MyGroups.graphql";
export { default as SEND_GROUP_MESSAGE } from "../../../graphql/operations/SendGroupMessage.graphql";
