//! Where a broker runs: in a throw-away directory, or in a container.

use std::{path::Path, time::Duration};

use crate::{
    Result,
    account::Account,
    broker::{Container, Kind, Native, Server},
    port, random,
    server::Place,
    supervisor::Part,
};

/// Its controller listens so far below its own port.
const CONTROL: u16 = 1;
/// And here it listens to whoever comes through a proxy,
pub(super) const PROXIED: u16 = 2;
/// who is told to come here.
#[cfg(all(feature = "kafka", feature = "proxy"))]
pub(super) const PROXY: u16 = 3;

pub(super) const KAFKA: Kind = Kind {
    name: "Kafka",
    image: "apache/kafka:4.1.1",
    start_max: Duration::from_secs(60),
    // A Java that starts wants the processor for itself.
    look_again: Duration::from_millis(50),
    has_ports: |port| [CONTROL, PROXIED].into_iter().all(|below| port::is_free(port - below)),
    // What every broker answers, whatever its version: which versions it knows. The question's number is 1.
    question: &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
    is_answer: |words| words[4..] == [0, 0, 0, 1],
    port_taken: "Address already in use",
};

/// `PORT` and `DIRECTORY` are put in when it starts, and the ports below by their distance. Groups form at once, and a broker that was killed is let in
/// again soon.
const CONFIG: &str = "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:BELOW1
listeners=PLAINTEXT://127.0.0.1:PORT,PROXIED://127.0.0.1:BELOW2,CONTROLLER://127.0.0.1:BELOW1
advertised.listeners=PLAINTEXT://127.0.0.1:PORT,PROXIED://127.0.0.1:BELOW3
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=DIRECTORY/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
";

/// What else a broker needs that the proxied listener speaks TLS on, to users who sign in.
const SECURED: &str = "\
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.proxied.ssl.keystore.type=PKCS12
listener.name.proxied.ssl.keystore.location=DIRECTORY/broker.p12
listener.name.proxied.ssl.keystore.password=PASSWORD
listener.name.proxied.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_USER=\"PASSWORD\";
listener.name.proxied.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.proxied.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
";
/// Who signs in there.
const USER: &str = "shop";

/// The supervisor's part for archives. What the broker has stored stays over its starts. Where there is a password, the broker
/// signs its own certificate.
const RUN: &str = r#"
format() {
    set -- --cluster-id=AAAAAAAAQACAAAAAAAAAAQ -c "$dir/config"
    if [ -n "$password" ]; then
        certify || return
        for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
            set -- "$@" --add-scram "$mechanism=[name=$user,password=$password]"
        done
    fi
    java -XX:TieredStopAtLevel=1 -cp "$archives/*" kafka.tools.StorageTool format "$@" >&2
}
certify() {
    keytool -genkeypair -alias broker -keyalg EC -dname CN=broker -ext san=ip:127.0.0.1 -validity 30 \
        -storetype PKCS12 -keystore "$dir/broker.p12" -storepass "$password" >&2 &&
        keytool -exportcert -rfc -alias broker -keystore "$dir/broker.p12" -storepass "$password" \
            -file "$dir/ca.pem" >&2
}
start() {
    [ -z "$id" ] || wait "$id"
    printf '%s\n' "$config" | sed "s/PORT/$1/g; s/BELOW1/$(($1 - 1))/g; s/BELOW2/$(($1 - 2))/g; s/BELOW3/$(($1 - 3))/g; s|DIRECTORY|$dir|g" >"$dir/config"
    [ -e "$dir/data/meta.properties" ] || format || return
    exec java -Xms128m -Xmx512m -XX:TieredStopAtLevel=1 -cp "$archives/*" kafka.Kafka "$dir/config" >&2 &
    id=$!
}
end() {
    [ -n "$id" ] || return
    kill -KILL "$id"
    wait "$id"
}
"#;

/// The supervisor's part for a container: the same settings.
const MAKE: &str = r#"
make() {
    docker run --detach --name "$name" --publish "127.0.0.1:$1:9092" --publish "127.0.0.1:$(($1 - 2)):9094" \
        --env KAFKA_NODE_ID=1 --env KAFKA_PROCESS_ROLES=broker,controller \
        --env KAFKA_LISTENERS=PLAINTEXT://:9092,PROXIED://:9094,CONTROLLER://:9093 \
        --env "KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://127.0.0.1:$1,PROXIED://127.0.0.1:$(($1 - 3))" \
        --env KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT,PLAINTEXT:PLAINTEXT \
        --env KAFKA_INTER_BROKER_LISTENER_NAME=PLAINTEXT --env KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER \
        --env KAFKA_CONTROLLER_QUORUM_VOTERS=1@localhost:9093 --env KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1 \
        --env KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS=4 --env KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR=1 \
        --env KAFKA_TRANSACTION_STATE_LOG_MIN_ISR=1 --env KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS=0 \
        --env KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS=1000 --env KAFKA_AUTO_CREATE_TOPICS_ENABLE=false \
        --env KAFKA_BROKER_SESSION_TIMEOUT_MS=2000 --env KAFKA_BROKER_HEARTBEAT_INTERVAL_MS=500 \
        --env KAFKA_LOG_DIRS=/tmp/data "$image"
}
"#;

/// Starts a broker of archives, or else in Docker.
pub(super) fn start(archives: Option<&Path>) -> Result<Server> {
    let place: Box<dyn Place> = match archives {
        Some(archives) => Box::new(native(archives, CONFIG, "")?),
        None => Box::new(Container::new(&KAFKA, MAKE, &[])?),
    };
    Server::start_in(place, |port| format!("kafka://127.0.0.1:{port}"))
}

/// Starts a broker of archives whose URL is over TLS, with a user who signs in by SCRAM.
pub(super) fn start_secured(archives: &Path) -> Result<Server> {
    let password = random::password();
    let secured = SECURED.replace("PASSWORD", &password).replace("USER", USER);
    let config = CONFIG
        .replace("PROXIED:PLAINTEXT", "PROXIED:SASL_SSL")
        .replace("PROXIED://127.0.0.1:BELOW3", "PROXIED://127.0.0.1:BELOW2");
    let place = native(archives, &(config + &secured), &password)?;
    let ca = place.directory().join("ca.pem");
    Server::start_in(Box::new(place), |port| {
        let (port, ca) = (port - PROXIED, ca.display());
        format!("kafkas://{USER}:{password}@127.0.0.1:{port}?mechanism=SCRAM-SHA-512&ca={ca}")
    })
}

fn native(archives: &Path, config: &str, password: &str) -> Result<Native> {
    let archives = archives.display().to_string();
    let part = Part {
        functions: RUN,
        variables: &[
            ("archives", &archives),
            ("config", config),
            ("user", USER),
            ("password", password),
        ],
        arguments: &[],
    };
    // As whoever we are: others cannot reach archives below this user's home, and the broker does not mind.
    Native::new(&KAFKA, Account::own(), &part)
}
