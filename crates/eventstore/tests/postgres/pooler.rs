//! A pooler between the store and the server.
