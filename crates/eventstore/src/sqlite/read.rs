//! Pages of events.

use rusqlite::{Connection, OptionalExtension, ToSql, params_from_iter, types::ValueRef};
use sagamill_bus::Topic;
use uuid::Uuid;

use super::row::{self, COLUMNS, Payloads};
use crate::{
    Anchor, Health, Position, Recorded, Setting,
    backend::{Page, Query},
};

/// Most positions that one page with filters looks at: a reader that finds nothing for long must not hold the log's
/// write-ahead file.
const WINDOW: i64 = 20_000;

/// A page of the log with more rows is a scan.
const ROWS: usize = 500;

/// Whether a page is a good part of the log.
pub(super) fn is_scan(query: &Query) -> bool {
    query.stream.is_none() && query.limit > ROWS
}

pub(super) fn page(connection: &Connection, query: &Query) -> rusqlite::Result<Page> {
    match &query.stream {
        Some(_) => page_of_stream(connection, query),
        None => {
            let before = query.after.filter(|_| query.anchored.is_some()).map(Position);
            let before = before.map(|position| event_at(connection, position)).transpose()?;
            let page = page_of_log(connection, query)?;
            Ok(Page {
                before: before.flatten(),
                ..page
            })
        }
    }
}

pub(super) fn head(connection: &Connection) -> rusqlite::Result<Anchor> {
    let mut last = connection.prepare_cached("SELECT pos, event_id FROM es_event ORDER BY pos DESC LIMIT 1")?;
    let anchor = last.query_row([], |row| {
        Ok(Anchor {
            position: Position(row.get(0)?),
            event: row::id(row, 1)?,
        })
    });
    Ok(anchor.optional()?.unwrap_or_default())
}

pub(super) fn event_at(connection: &Connection, position: Position) -> rusqlite::Result<Option<Uuid>> {
    let mut at = connection.prepare_cached("SELECT event_id FROM es_event WHERE pos = ?1")?;
    Ok(at.query_row([position.0], |row| row::id(row, 0)).optional()?.flatten())
}

pub(super) fn health(connection: &Connection) -> rusqlite::Result<Health> {
    let revision = connection.query_row("SELECT schema_rev FROM es_log_meta", [], |row| row.get(0))?;
    let mut health = Health::of("sqlite", rusqlite::version().to_owned(), revision);
    for name in ["journal_mode", "page_size", "page_count", "freelist_count"] {
        let value = connection.pragma_query_value(None, name, |row| match row.get_ref(0)? {
            ValueRef::Integer(number) => Ok(number.to_string()),
            value => Ok(value.as_str()?.to_owned()),
        })?;
        let problem = (name == "journal_mode" && value != "wal").then_some("readers and the writer hold each other up");
        health.settings.push(Setting {
            name: name.to_owned(),
            value,
            problem,
        });
    }
    Ok(health)
}

/// Time never goes backwards along the log, so that a position is found by halving.
pub(super) fn since(connection: &Connection, time: jiff::Timestamp) -> rusqlite::Result<Position> {
    let mut recorded_at = connection.prepare_cached("SELECT recorded_at FROM es_event WHERE pos = ?1")?;
    let (mut low, mut high) = (1, head(connection)?.position.0 + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        if recorded_at.query_row([middle], |row| row.get::<_, i64>(0))? < time.as_microsecond() {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(Position(low))
}

fn page_of_stream(connection: &Connection, query: &Query) -> rusqlite::Result<Page> {
    let stream = query.stream.as_ref().map_or("", |stream| stream.as_str());
    let (low, high) = query.bounds();
    let mut select = Select::new("es_event WHERE stream_id = ? AND version BETWEEN ? AND ?");
    select.bind(stream.to_owned()).bind(low).bind(high);
    let events = select.filtered(query).run(connection, "version", query, 0)?;
    let last = events.last().map(|event| (event.version.0, anchor(event)));
    let (scanned, anchor) = last.unwrap_or((query.after.unwrap_or(0), Anchor::default()));
    Ok(Page {
        end: events.len() < query.limit,
        scanned,
        anchor,
        events,
        before: None,
    })
}

fn page_of_log(connection: &Connection, query: &Query) -> rusqlite::Result<Page> {
    // The head comes first: what is appended after it is for the next page.
    let head = head(connection)?.position.0;
    let (low, high) = query.bounds();
    let (low, high) = (low.max(1), high.min(head));
    if high < low {
        return Ok(Page {
            scanned: query.after.unwrap_or(0),
            end: true,
            ..Page::default()
        });
    }
    let sparse = query.topic.is_some() || !query.published && (query.category.is_some() || !query.names.is_empty());
    let window = if sparse { WINDOW } else { i64::MAX };
    let (low, high) = if query.backward {
        (low.max(high.saturating_sub(window - 1)), high)
    } else {
        (low, high.min(low.saturating_add(window - 1)))
    };
    let from = if query.published {
        "es_event INDEXED BY es_event_published"
    } else {
        "es_event"
    };
    let mut select = Select::new(&format!("{from} WHERE pos BETWEEN ? AND ?"));
    select.bind(low).bind(high);
    let known = if sparse || query.published { 0 } else { high - low + 1 };
    let events = select.filtered(query).run(connection, "pos", query, known)?;
    finish(connection, query, events, if query.backward { low } else { high }, head)
}

/// A page that is not full was looked through to its edge.
fn finish(
    connection: &Connection,
    query: &Query,
    events: Vec<Recorded>,
    edge: i64,
    head: i64,
) -> rusqlite::Result<Page> {
    let full = events.last().filter(|_| events.len() == query.limit).map(anchor);
    let anchor = match full {
        Some(anchor) => anchor,
        None => Anchor {
            position: Position(edge),
            event: event_at(connection, Position(edge))?,
        },
    };
    let scanned = anchor.position.0;
    let (low, high) = query.bounds();
    let end = if query.backward {
        scanned <= low.max(1)
    } else {
        scanned >= high.min(head)
    };
    Ok(Page {
        events,
        scanned,
        anchor,
        end,
        before: None,
    })
}

fn anchor(event: &Recorded) -> Anchor {
    Anchor {
        position: event.position,
        event: Some(event.id),
    }
}

/// A statement that grows with what is asked; its few shapes stay prepared.
struct Select {
    sql: String,
    values: Vec<Box<dyn ToSql>>,
}

impl Select {
    fn new(from: &str) -> Self {
        Self {
            sql: format!("SELECT {COLUMNS} FROM {from}"),
            values: Vec::new(),
        }
    }
    fn bind(&mut self, value: impl ToSql + 'static) -> &mut Self {
        self.values.push(Box::new(value));
        self
    }
    /// The plus signs keep SQLite on the index by which the page is ordered.
    fn filtered(&mut self, query: &Query) -> &mut Self {
        if let Some(category) = &query.category {
            self.sql
                .push_str(" AND (+stream_id = ? OR (+stream_id >= ? AND +stream_id < ?))");
            // A dot comes right after a dash.
            self.bind(category.clone())
                .bind(format!("{category}-"))
                .bind(format!("{category}."));
        }
        if !query.names.is_empty() {
            self.sql.push_str(" AND +type IN (SELECT value FROM json_each(?))");
            self.bind(serde_json::Value::from(query.names.clone()).to_string());
        }
        if query.published {
            self.sql.push_str(" AND topic IS NOT NULL");
        }
        if let Some(topic) = &query.topic {
            self.on(topic);
        }
        if let Some((low, high)) = query.positions {
            self.sql.push_str(" AND +pos BETWEEN ? AND ?");
            self.bind(low.0).bind(high.0);
        }
        self
    }
    /// A pattern has as many dots as what it stands for, so that no star of it can take one in.
    fn on(&mut self, topic: &Topic) {
        if topic.is_pattern() {
            self.sql
                .push_str(" AND topic GLOB ? AND length(topic) - length(replace(topic, '.', '')) = ?");
            let dots = topic.as_ref().matches('.').count() as i64;
            self.bind(topic.as_ref().replace('*', "?*")).bind(dots);
        } else {
            self.sql.push_str(" AND topic = ?");
            self.bind(topic.to_string());
        }
    }
    /// `known` rows are there at least, 0 where that cannot be told.
    fn run(&mut self, connection: &Connection, by: &str, query: &Query, known: i64) -> rusqlite::Result<Vec<Recorded>> {
        let direction = if query.backward { "DESC" } else { "ASC" };
        self.sql.push_str(&format!(" ORDER BY {by} {direction} LIMIT ?"));
        self.bind(i64::try_from(query.limit).unwrap_or(i64::MAX));
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(query.limit);
        let mut statement = connection.prepare_cached(&self.sql)?;
        let mut rows = statement.query(params_from_iter(&self.values))?;
        let (mut events, mut payloads) = (Vec::with_capacity(known), Payloads::default());
        while let Some(row) = rows.next()? {
            row::push_recorded(row, &mut payloads, &mut events)?;
        }
        Ok(events)
    }
}
