//! Forms of the HTTP API and of the agent's local socket: what people and scripts read and write as JSON.
