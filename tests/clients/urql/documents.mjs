// The documents of graphql/operations/ that parley.mjs uses; urql takes them as text. Node (with a hook) and esbuild
// import a .graphql file as text; Vite does with `?raw`.

import groupHistory from "../../../graphql/operations/GroupHistory.graphql";
import groupMessageEvents from "../../../graphql/operations/GroupMessageEvents.graphql";
import groupMessages from "../../../graphql/operations/GroupMessages.graphql";
import myGroupEvents from "../../../graphql/operations/MyGroupEvents.graphql";
import myGroups from "../../../graphql/operations/MyGroups.graphql";
import sendGroupMessage from "../../../graphql/operations/SendGroupMessage.graphql";

// region reactions
/** A chat that shows reactions asks for them wherever it asks for messages: of a copy all of it is newer, or nothing. */
const REACTIONS = "fragment MessageParts on Message {\n  reactions {\n    emoji\n    count\n  }";
const document = (text) => text.replace("fragment MessageParts on Message {", REACTIONS);
// endregion

export const GROUP_HISTORY = document(groupHistory);
export const GROUP_MESSAGE_EVENTS = document(groupMessageEvents);
export const GROUP_MESSAGES = document(groupMessages);
export const MY_GROUP_EVENTS = document(myGroupEvents);
export const MY_GROUPS = document(myGroups);
export const SEND_GROUP_MESSAGE = document(sendGroupMessage);
