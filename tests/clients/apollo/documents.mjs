// The documents of graphql/operations/ for Apollo Client. Node (with a hook) and esbuild import a .graphql file as text;
// Vite does with `?raw`, and graphql-codegen makes such a module from the same folder, with types.

import { gql } from "@apollo/client";

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
import sendGroupMessage from "../../../graphql/operations/SendGroupMessage.graphql";
import user from "../../../graphql/operations/User.graphql";
import viewer from "../../../graphql/operations/Viewer.graphql";

export const CREATE_GROUP = gql(createGroup);
export const GROUP = gql(group);
export const GROUP_HISTORY = gql(groupHistory);
export const GROUP_MESSAGE_EVENTS = gql(groupMessageEvents);
export const GROUP_MESSAGES = gql(groupMessages);
export const LOGIN = gql(login);
export const LOGOUT = gql(logout);
export const MY_GROUP_EVENTS = gql(myGroupEvents);
export const MY_GROUPS = gql(myGroups);
export const NODE = gql(node);
export const REGISTER = gql(register);
export const SEND_GROUP_MESSAGE = gql(sendGroupMessage);
export const USER = gql(user);
export const VIEWER = gql(viewer);
