// mainstay for Node: a module of a mainstay application, or a program that looks at one.
export { Client } from "./client.js";
export { ConnectionClosed, MainstayError, RequestRefused, RequestTimeout } from "./lines.js";
export { Module } from "./module.js";
