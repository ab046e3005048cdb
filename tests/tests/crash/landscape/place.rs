//! Where the landscape stands: a PostgreSQL server, a database and a role for each service, one database for the bus.

use std::{net::TcpListener, path::Path, str::FromStr};

use sagamill_testkit::postgres::{self, Database, Own};
use shop_frame::Location;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::member::{Member, Role};
use crate::books::Books;

/// The databases, the bus last.
pub(super) const DATABASES: [&str; 6] = ["order", "inventory", "payment", "provider", "shipping", "bus"];

pub(super) struct Place {
    server: Own,
    /// In the order of their names above, each with its role's URL.
    databases: Vec<(Database, String)>,
}

impl Place {
    /// None: there is no PostgreSQL here, which is said.
    pub(super) async fn make() -> Option<Self> {
        let server = postgres::own().await?;
        let mut databases = Vec::new();
        for name in DATABASES {
            let database = server.database(name).await.expect("a database can be made");
            let role = database.role(name).await.expect("a role can be made");
            let mut connection = PgConnection::connect(server.url()).await.expect("the server answers");
            let give = format!("ALTER DATABASE \"{}\" OWNER TO \"{}\"", database.name(), role.name());
            sqlx::raw_sql(AssertSqlSafe(give))
                .execute(&mut connection)
                .await
                .expect("a database can be given to its role");
            databases.push((database, role.url().to_owned()));
        }
        Some(Self { server, databases })
    }
    fn database(&self, name: &str) -> &(Database, String) {
        let at = DATABASES.iter().position(|database| *database == name);
        &self.databases[at.expect("invariant: it is one of those")]
    }
    /// The URL of a service's database, by its role.
    pub(super) fn url(&self, name: &str) -> &str {
        &self.database(name).1
    }

    /// Between the services: the log in its own database, unless `SAGAMILL_BUS` names another bus.
    fn bus(&self) -> String {
        std::env::var("SAGAMILL_BUS").unwrap_or_else(|_| self.url("bus").to_owned())
    }

    /// The processes, not yet started.
    pub(super) fn members(&self, logs: &Path) -> Vec<Member> {
        let ports: Vec<u16> = free_ports(Role::MEMBERS.len());
        let at = |role: Role| {
            let index = Role::MEMBERS.iter().position(|member| *member == role);
            format!("http://127.0.0.1:{}", ports[index.expect("invariant: there is one")])
        };
        let member = |(n, role): (usize, Role)| {
            let database = match role {
                Role::Inventory => "inventory",
                Role::Payment => "payment",
                Role::Shipping => "shipping",
                Role::Order | Role::Coordinator => "order",
            };
            let mut told = vec![("--database", self.url(database).to_owned()), ("--bus", self.bus())];
            match role {
                Role::Payment => told.push(("--provider-database", self.url("provider").to_owned())),
                Role::Order => told.extend([
                    ("--inventory", at(Role::Inventory)),
                    ("--payment", at(Role::Payment)),
                    ("--shipping", at(Role::Shipping)),
                ]),
                _ => {}
            }
            let mut arguments: Vec<String> = told
                .into_iter()
                .flat_map(|(name, value)| [name.to_owned(), value])
                .collect();
            if role == Role::Coordinator {
                arguments.push("--sagas-only".to_owned());
            }
            Member {
                role,
                arguments,
                port: ports[n],
                log: logs.join(format!("{n}-{database}.log")),
                life: None,
            }
        };
        Role::MEMBERS.into_iter().enumerate().map(member).collect()
    }
    pub(super) fn books(&self) -> Books {
        Books::new(|name| Location::from_str(self.url(name)).expect("a URL of a database"))
    }
    /// Ends all connections to a database, and answers how many there were.
    pub(super) async fn cut(&self, database: usize) -> u64 {
        let cut = self.databases[database].0.terminate_backends().await;
        cut.expect("connections can be ended")
    }
    /// By a crash, or in order.
    pub(super) async fn restart_server(&self, crash: bool) {
        let ended = if crash {
            self.server.kill().await
        } else {
            self.server.stop().await
        };
        ended.expect("the server can be ended");
        self.server.restart().await.expect("the server can be started again");
    }
}

/// Ports that nobody listens on now. A process that is killed listens on its own again.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    let port = |listener: &TcpListener| listener.local_addr().expect("it is bound").port();
    listeners.iter().map(port).collect()
}
