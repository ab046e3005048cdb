//! What a saga does next once an event has changed where it is.
