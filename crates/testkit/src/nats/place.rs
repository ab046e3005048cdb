//! Where a server runs: in a throw-away directory, or in a container.

use std::{path::Path, time::Duration};

use crate::{
    Result,
    account::Account,
    broker::{Container, Kind, Native, Server},
    process, random,
    server::Place,
    supervisor::Part,
};

pub(super) const NATS: Kind = Kind {
    name: "NATS",
    image: "nats:2.12-alpine",
    start_max: Duration::from_secs(60),
    look_again: process::PAUSE,
    has_ports: |_| true,
    // A server says what it is as soon as somebody connects.
    question: b"",
    is_answer: |words| words.starts_with(b"INFO"),
    port_taken: "address already in use",
};

/// What is not an argument. Messages may be as large as the bus carries, with their headers.
const CONFIG: &str = r#"
max_payload: 8MB
jetstream: enabled
authorization: { token: "TOKEN" }
"#;

/// The supervisor's part for a program.
const RUN: &str = r#"
start() {
    [ -z "$id" ] || wait "$id"
    printf '%s\n' "$config" >"$dir/config"
    exec "$program" -c "$dir/config" -a 127.0.0.1 -p "$1" -sd "$dir/data" >&2 &
    id=$!
}
end() {
    [ -n "$id" ] || return
    kill -KILL "$id"
    wait "$id"
}
"#;

/// The supervisor's part for a container.
const MAKE: &str = r#"
make() {
    docker run --detach --name "$name" --publish "127.0.0.1:$1:4222" --env "config=$config" --entrypoint sh "$image" \
        -c 'printf "%s\n" "$config" >/tmp/config; exec nats-server -c /tmp/config -a 0.0.0.0 -p 4222 -sd /tmp/data'
}
"#;

/// Starts a server of a program, or else in Docker.
pub(super) fn start(program: Option<&Path>) -> Result<Server> {
    let token = random::password();
    let config = CONFIG.replace("TOKEN", &token);
    let place: Box<dyn Place> = match program {
        Some(program) => Box::new(native(program, &config)?),
        None => Box::new(Container::new(&NATS, MAKE, &[("config", &config)])?),
    };
    Server::start_in(place, |port| format!("nats://{token}@127.0.0.1:{port}"))
}

fn native(program: &Path, config: &str) -> Result<Native> {
    let program = program.display().to_string();
    let part = Part {
        functions: RUN,
        variables: &[("program", &program), ("config", config)],
        arguments: &[],
    };
    // As whoever we are: others cannot reach a program below this user's home, and this server does not mind.
    Native::new(&NATS, Account::own(), &part)
}
