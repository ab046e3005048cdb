//! Pages of events.
//!
//! Every page of the log asks for a range of positions with both its ends: so the server takes the index, also by a plan that
//! it made while the log was empty.

use futures_util::TryStreamExt;
use jiff::Timestamp;
use sagamill_bus::Topic;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, QueryBuilder, Row};
use uuid::Uuid;

use super::{
    readers::Done,
    row::{self, COLUMNS},
    time::At,
};
use crate::{
    Anchor, Position, Recorded,
    backend::{Page, Query},
};

/// Most positions that one page with filters looks at: what finds nothing for long must not keep the server at it.
const WINDOW: i64 = 20_000;

const HEAD: &str = "SELECT pos, event_id FROM es.event ORDER BY pos DESC LIMIT 1";
const EVENT_AT: &str = "SELECT event_id FROM es.event WHERE pos = $1";

pub(super) async fn page(mut connection: PgConnection, query: &Query) -> Done<Page> {
    let page = match &query.stream {
        Some(stream) => page_of_stream(&mut connection, query, stream.as_str()).await,
        None if query.is_filtered() || query.backward => page_between_edges(&mut connection, query).await,
        None => page_of_all(&mut connection, query).await,
    };
    (connection, page)
}

pub(super) async fn head(mut connection: PgConnection) -> Done<Anchor> {
    let head = sqlx::query_as(HEAD).fetch_optional(&mut connection).await;
    (connection, head.map(|head| head.map(anchor).unwrap_or_default()))
}

pub(super) async fn event_at(mut connection: PgConnection, position: Position) -> Done<Option<Uuid>> {
    let event = sqlx::query_scalar(EVENT_AT).bind(position.0);
    let event = event.fetch_optional(&mut connection).await;
    (connection, event)
}

pub(super) async fn since(mut connection: PgConnection, time: Timestamp) -> Done<Position> {
    let since = sqlx::query_scalar("SELECT es.since($1)").bind(At(time));
    let since = since.fetch_one(&mut connection).await;
    (connection, since.map(Position))
}

async fn page_of_stream(connection: &mut PgConnection, query: &Query, stream: &str) -> sqlx::Result<Page> {
    let (low, high) = query.bounds();
    let mut select = Select::of_stream(stream, low, high);
    let events = select.filtered(query).limited(query).run(connection).await?;
    let last = events.last().map(|event| (event.version.0, at(event)));
    let (scanned, anchor) = last.unwrap_or((query.after.unwrap_or(0), Anchor::default()));
    Ok(Page {
        end: events.len() < query.limit,
        scanned,
        anchor,
        events,
        before: None,
    })
}

/// All events, forward: positions are dense, so that a page that is not full has come to the head.
async fn page_of_all(connection: &mut PgConnection, query: &Query) -> sqlx::Result<Page> {
    let (low, high) = query.bounds();
    let high = high.min(low.saturating_add(query.limit as i64 - 1));
    let after = query.after.unwrap_or(0);
    let nothing = Page {
        scanned: after,
        end: true,
        ..Page::default()
    };
    // The event at which it begins comes with it, in the same reading.
    let begin = if query.anchored.is_some() { low - 1 } else { low };
    if high < begin {
        return Ok(nothing);
    }
    let mut events = Select::of_log(begin, high).ordered(query).run(connection).await?;
    let has_before = events.first().is_some_and(|first| first.position.0 < low);
    let before = has_before.then(|| events.remove(0).id);
    let Some(last) = events.last().map(at) else {
        return Ok(Page { before, ..nothing });
    };
    let scanned = last.position.0;
    let end = scanned < high || query.until == Some(scanned);
    Ok(Page {
        events,
        scanned,
        anchor: last,
        end,
        before,
    })
}

/// How far a page of the log may look, by one reading.
struct Edges {
    head: i64,
    /// The last position that it looks at, in its direction, and the event there.
    edge: Anchor,
    before: Option<Uuid>,
}

async fn page_between_edges(connection: &mut PgConnection, query: &Query) -> sqlx::Result<Page> {
    let (low, high) = query.bounds();
    let low = low.max(1);
    let nothing = Page {
        scanned: query.after.unwrap_or(0),
        end: true,
        ..Page::default()
    };
    let Some(edges) = edges(connection, query, low, high).await? else {
        return Ok(nothing);
    };
    let (head, before) = (edges.head, edges.before);
    let high = high.min(head);
    if high < low {
        return Ok(Page { before, ..nothing });
    }
    let edge = edges.edge.position.0;
    let range = if query.backward { (edge, high) } else { (low, edge) };
    let mut select = Select::of_log(range.0, range.1);
    let events = select.filtered(query).limited(query).run(connection).await?;
    // A page that is not full was looked through to its edge.
    let full = events.last().filter(|_| events.len() == query.limit).map(at);
    let anchor = full.unwrap_or(edges.edge);
    let scanned = anchor.position.0;
    Ok(Page {
        events,
        scanned,
        anchor,
        end: if query.backward {
            scanned <= low
        } else {
            scanned >= high
        },
        before,
    })
}

async fn edges(connection: &mut PgConnection, query: &Query, low: i64, high: i64) -> sqlx::Result<Option<Edges>> {
    let edge = if query.backward {
        "greatest($1, least($2, h.pos) - $3 + 1)"
    } else {
        "least($2, h.pos, $1 + $3 - 1)"
    };
    let sql = format!(
        "SELECT h.pos, e.pos, e.event_id, (SELECT b.event_id FROM es.event b WHERE b.pos = $4)
           FROM (SELECT pos FROM es.event ORDER BY pos DESC LIMIT 1) h LEFT JOIN es.event e ON e.pos = {edge}"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(low.min(i64::MAX - WINDOW))
        .bind(high)
        .bind(WINDOW)
        .bind(query.after.filter(|_| query.anchored.is_some()))
        .fetch_optional(connection)
        .await?;
    row.map(|row| {
        let head = row.try_get(0)?;
        let position: Option<i64> = row.try_get(1)?;
        Ok(Edges {
            head,
            edge: Anchor {
                position: Position(position.unwrap_or(head)),
                event: row.try_get(2)?,
            },
            before: row.try_get(3)?,
        })
    })
    .transpose()
}

/// A pattern of topics as a regular expression: a star stands for one word. Its other characters are letters, digits, dashes,
/// underscores and dots.
fn expression(topic: &Topic) -> String {
    let words = topic.as_ref().replace('.', "\\.").replace('*', "[^.]+");
    format!("^{words}$")
}

fn at(event: &Recorded) -> Anchor {
    anchor((event.position.0, event.id))
}

fn anchor((position, event): (i64, Uuid)) -> Anchor {
    Anchor {
        position: Position(position),
        event: Some(event),
    }
}

/// A statement that grows with what is asked; its few shapes stay prepared.
struct Select {
    sql: QueryBuilder<Postgres>,
    by: &'static str,
}

impl Select {
    fn of_log(low: i64, high: i64) -> Self {
        let sql = QueryBuilder::new(format!("SELECT {COLUMNS} FROM es.event WHERE pos >= "));
        Self { sql, by: "pos" }.between(low, high)
    }
    fn of_stream(stream: &str, low: i64, high: i64) -> Self {
        let mut sql = QueryBuilder::new(format!("SELECT {COLUMNS} FROM es.event WHERE stream_id = "));
        sql.push_bind(stream.to_owned()).push(" AND version >= ");
        Self { sql, by: "version" }.between(low, high)
    }
    fn between(mut self, low: i64, high: i64) -> Self {
        let by = self.by;
        self.sql
            .push_bind(low)
            .push(" AND ")
            .push(by)
            .push(" <= ")
            .push_bind(high);
        self
    }
    fn filtered(&mut self, query: &Query) -> &mut Self {
        let sql = &mut self.sql;
        if let Some(category) = &query.category {
            sql.push(" AND split_part(stream_id, '-', 1) = ")
                .push_bind(category.clone());
        }
        if !query.names.is_empty() {
            sql.push(" AND type = ANY (").push_bind(query.names.clone()).push(")");
        }
        if query.published {
            sql.push(" AND topic IS NOT NULL");
        }
        match &query.topic {
            Some(topic) if topic.is_pattern() => {
                sql.push(" AND topic ~ ").push_bind(expression(topic));
            }
            Some(topic) => {
                sql.push(" AND topic = ").push_bind(topic.to_string());
            }
            None => (),
        }
        if let Some((low, high)) = query.positions {
            sql.push(" AND pos >= ").push_bind(low.0);
            sql.push(" AND pos <= ").push_bind(high.0);
        }
        self
    }
    fn ordered(&mut self, query: &Query) -> &mut Self {
        let direction = if query.backward { " DESC" } else { "" };
        self.sql.push(" ORDER BY ").push(self.by).push(direction);
        self
    }
    fn limited(&mut self, query: &Query) -> &mut Self {
        let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
        self.ordered(query).sql.push(" LIMIT ").push_bind(limit);
        self
    }
    /// Rows are taken as they come, and not all of them held before the first is looked at.
    async fn run(&mut self, connection: &mut PgConnection) -> sqlx::Result<Vec<Recorded>> {
        let mut rows = self.sql.build().fetch(connection);
        let mut events = Vec::new();
        while let Some(row) = rows.try_next().await? {
            events.push(row::recorded(&row)?);
        }
        Ok(events)
    }
}
