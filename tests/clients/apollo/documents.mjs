// The documents of graphql/operations/ for Apollo Client. Node (with a hook) and esbuild import a .graphql file as text;
// Vite does with `?raw`, and graphql-codegen makes such a module from the same folder, with types.

import { gql } from "@apollo/client";

import addReaction from "../../../graphql/operations/AddReaction.graphql";
import createGroup from "../../../graphql/operations/CreateGroup.graphql";
import group from "../../../graphql/operations/Group.graphql";
import groupHistory from "../../../graphql/operations/GroupHistory.graphql";
import groupMessageEvents from "../../../graphql/operations/GroupMessageEvents.graphql";
import groupMessages from "../../../graphql/operations/GroupMessages.graphql";
import login from "../../../graphql/operations/Login.graphql";
import logout from "../../../graphql/operations/Logout.graphql";
import myGroupEvents from "../../../graphql/operations/MyGroupEvents.graphql";
import myGroups from "../../../graphql/operations/MyGroups.graphql";
import node from "../../../graphql/operations/Node.graphql";
import register from "../../../graphql/operations/Register.graphql";
import removeReaction from "../../../graphql/operations/RemoveReaction.graphql";
import sendGroupMessage from "../../../graphql/operations/SendGroupMessage.graphql";
import user from "../../../graphql/operations/User.graphql";
import viewer from "../../../graphql/operations/Viewer.graphql";

// region reactions
/** A chat that shows reactions asks for them wherever it asks for messages: of a copy all of it is newer, or nothing. */
const REACTIONS = "fragment MessageParts on Message {\n  reactions {\n    emoji\n    count\n    viewerHasReacted\n  }";
const document = (text) => gql(text.replace("fragment MessageParts on Message {", REACTIONS));
// endregion

export const ADD_REACTION = document(addReaction);
export const CREATE_GROUP = document(createGroup);
export const GROUP = document(group);
export const GROUP_HISTORY = document(groupHistory);
export const GROUP_MESSAGE_EVENTS = document(groupMessageEvents);
export const GROUP_MESSAGES = document(groupMessages);
export const LOGIN = document(login);
export const LOGOUT = document(logout);
export const MY_GROUP_EVENTS = document(myGroupEvents);
export const MY_GROUPS = document(myGroups);
export const NODE = document(node);
export const REGISTER = document(register);
export const REMOVE_REACTION = document(removeReaction);
export const SEND_GROUP_MESSAGE = document(sendGroupMessage);
export const USER = document(user);
export const VIEWER = document(viewer);
