//! Where a broker runs: in a throw-away directory, or in a container.

use std::{path::Path, time::Duration};

use crate::{
    Error, Result,
    account::Account,
    broker::{Container, Kind, Native, Server},
    port, process, random,
    server::Place,
    supervisor::Part,
};

pub(super) const RABBITMQ: Kind = Kind {
    name: "RabbitMQ",
    image: "rabbitmq:4",
    start_max: Duration::from_secs(120),
    look_again: process::PAUSE,
    has_ports: |_| true,
    question: b"AMQP\x00\x00\x09\x01",
    // A frame of a method, on channel 0.
    is_answer: |words| words.starts_with(&[1, 0, 0]),
    port_taken: "eaddrinuse",
};
/// The user of a broker of ours.
const USER: &str = "sagamill";

/// The supervisor's part for programs. What the broker has stored stays over its starts, under its name, which must not change.
///
/// Erlang wants a port mapper, and would start one that stays behind: so there is one already. The broker is a group of
/// processes, which ends as one; without groups, by the id that it writes down itself.
const RUN: &str = r#"
start() {
    [ -z "$id" ] || wait "$id"
    printf '%s\n' "listeners.tcp.1 = 127.0.0.1:$1" "default_user = $user" "default_pass = $password" \
        'log.file = false' 'log.console = true' 'disk_free_limit.absolute = 50MB' >"$dir/rabbitmq.conf"
    : >"$dir/plugins"
    if [ -z "$mapper" ]; then
        epmd -address 127.0.0.1 -port "$mapper_port" >&2 &
        mapper=$!
    fi
    # A group of its own where that can be had.
    $(command -v setsid) env -i PATH="$PATH" LC_ALL=C.UTF-8 HOME="$dir" \
        RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_NODENAME="sagamill$1@localhost" \
        RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf" RABBITMQ_DIST_PORT="$nodes_port" ERL_EPMD_PORT="$mapper_port" \
        ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_MNESIA_BASE="$dir/data" RABBITMQ_LOG_BASE="$dir/data" \
        RABBITMQ_ENABLED_PLUGINS_FILE="$dir/plugins" RABBITMQ_PID_FILE="$dir/pid" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='+sbwt none +sbwtdcpu none +sbwtdio none' \
        "$program" >&2 &
    id=$!
}
end() {
    [ -z "$id" ] || kill -KILL "-$id" || kill -KILL "$id" "$(cat "$dir/pid")"
    [ -z "$mapper" ] || kill -KILL "$mapper"
    wait
}
"#;

/// The supervisor's part for a container.
const MAKE: &str = r#"
make() {
    docker run --detach --name "$name" --hostname "$name" --publish "127.0.0.1:$1:5672" \
        --env "RABBITMQ_DEFAULT_USER=$user" --env "RABBITMQ_DEFAULT_PASS=$password" "$image"
}
"#;

/// Starts a broker of programs, or else in Docker.
pub(super) fn start(program: Option<&Path>) -> Result<Server> {
    let password = random::password();
    let place: Box<dyn Place> = match program {
        Some(program) => Box::new(native(program, &password)?),
        None => {
            let variables = [("user", USER), ("password", &*password)];
            Box::new(Container::new(&RABBITMQ, MAKE, &variables)?)
        }
    };
    Server::start_in(place, |port| format!("amqp://{USER}:{password}@127.0.0.1:{port}"))
}

fn native(program: &Path, password: &str) -> Result<Native> {
    let program = program.display().to_string();
    let (mapper, nodes) = (free_port()?, free_port()?);
    let part = Part {
        functions: RUN,
        variables: &[
            ("program", &program),
            ("user", USER),
            ("password", password),
            ("mapper_port", &mapper),
            ("nodes_port", &nodes),
            ("mapper", ""),
        ],
        arguments: &[],
    };
    Native::new(&RABBITMQ, Account::of_servers()?, &part)
}

fn free_port() -> Result<String> {
    let port = port::free().map_err(Error::run("listening"))?;
    Ok(port.to_string())
}
