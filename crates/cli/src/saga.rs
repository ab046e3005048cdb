//! `sagamill saga`: which sagas there are, and what became of one.

use std::{collections::HashMap, io::Write};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use sagamill::{
    eventstore::{EventStore, Recorded},
    saga::{
        core::{History, SagaEvent, Summary, SummaryState},
        wire,
    },
};

use crate::{
    failure::{Code, Failure},
    output::{ItemFormat, ListFormat, json_line, plain, stdout, table},
    source::Source,
    view::{SagaDetail, SagaRow, mark, millis, span, undo_mark},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List sagas, the newest first.
    List(List),
    /// Show one saga, step by step.
    Show(Show),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    source: Source,
    /// Only sagas in this state.
    #[arg(long)]
    state: Option<State>,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// How it looks.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its key, its id, or the beginning of one that no other has.
    id: String,
    #[command(flatten)]
    source: Source,
    /// How it looks.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ItemFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    Running,
    Completed,
    Compensated,
    Parked,
}

impl State {
    fn holds(self, state: SummaryState) -> bool {
        let wanted = match self {
            Self::Running => SummaryState::Running,
            Self::Completed => SummaryState::Completed,
            Self::Compensated => SummaryState::Compensated,
            Self::Parked => SummaryState::Parked,
        };
        state == wanted
    }
}

pub(crate) async fn run(command: Command) -> Result<Code, Failure> {
    match command {
        Command::List(options) => list(options).await,
        Command::Show(options) => show(options).await,
    }
}

async fn list(options: List) -> Result<Code, Failure> {
    let store = options.source.open().await?;
    let mut sagas = summaries(&store).await?;
    sagas.retain(|saga| options.state.is_none_or(|state| state.holds(saga.state)));
    sagas.reverse();
    sagas.truncate(options.limit);
    let mut out = stdout();
    match options.output {
        ListFormat::Json => json_line(&mut out, &sagas.iter().map(SagaRow::from).collect::<Vec<_>>())?,
        ListFormat::Ids => sagas
            .iter()
            .try_for_each(|saga| writeln!(out, "{}", plain(&saga.key)))?,
        ListFormat::Table => {
            let header = ["SAGA", "DEFINITION", "STATE", "STEP", "STARTED", "MS", "REASON"];
            out.write_all(table(&header, sagas.iter().map(row)).as_bytes())?;
        }
    }
    out.flush()?;
    Ok(Code::Success)
}

fn row(saga: &Summary) -> Vec<String> {
    vec![
        saga.key.clone(),
        format!("{} v{}", saga.definition, saga.version),
        saga.state.to_string(),
        saga.step.clone().unwrap_or_default(),
        saga.started_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        millis(saga.started_at, saga.updated_at).to_string(),
        saga.reason.clone().unwrap_or_default(),
    ]
}

async fn show(options: Show) -> Result<Code, Failure> {
    let store = options.source.open().await?;
    let sagas = summaries(&store).await?;
    let found = find(&sagas, &options.id)?;
    let history = history(&store, found).await?;
    let mut out = stdout();
    match options.output {
        ItemFormat::Json => json_line(&mut out, &SagaDetail::from(&history))?,
        ItemFormat::Table => write_history(&mut out, &history)?,
    }
    out.flush()?;
    Ok(Code::Success)
}

/// All sagas, in the order in which they began.
async fn summaries(store: &EventStore) -> Result<Vec<Summary>, Failure> {
    let mut events = store.read_all().category(wire::CATEGORY);
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut sagas: Vec<Option<Summary>> = Vec::new();
    while let Some(recorded) = events.next().await {
        let recorded = recorded?;
        let place = *places.entry(recorded.stream.as_str().to_owned()).or_insert(sagas.len());
        if place == sagas.len() {
            sagas.push(None);
        }
        sagas[place] = Some(Summary::fold(sagas[place].take(), &decode(&recorded)?));
    }
    Ok(sagas.into_iter().flatten().collect())
}

async fn history(store: &EventStore, saga: &Summary) -> Result<History, Failure> {
    let stream = wire::stream(&saga.definition, &saga.key);
    let mut events = store.read(stream.as_str());
    let mut history = None;
    while let Some(recorded) = events.next().await {
        history = Some(History::fold(history, &decode(&recorded?)?));
    }
    history.ok_or_else(|| Failure::not_found(format!("the stream {stream} has no event")))
}

fn decode(recorded: &Recorded) -> Result<sagamill::saga::core::Entry, Failure> {
    let decoded = SagaEvent::decode(recorded);
    let context = || {
        format!(
            "cannot read the event at position {} of {}",
            recorded.position, recorded.stream
        )
    };
    Ok(decoded.with_context(context)?)
}

fn find<'a>(sagas: &'a [Summary], id: &str) -> Result<&'a Summary, Failure> {
    let exactly = |saga: &&Summary| saga.key == id || saga.instance.to_string() == id;
    let begins = |saga: &&Summary| saga.key.starts_with(id) || saga.instance.to_string().starts_with(id);
    let mut found: Vec<_> = sagas.iter().filter(exactly).collect();
    if found.is_empty() {
        found = sagas.iter().filter(begins).collect();
    }
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(Failure::not_found(format!("there is no saga `{id}`"))),
        many => {
            let some: Vec<_> = many
                .iter()
                .take(5)
                .map(|saga| format!("{} ({})", saga.key, saga.instance))
                .collect();
            let more = if many.len() > some.len() { ", …" } else { "" };
            Err(Failure::usage(format!(
                "`{id}` may be any of {} sagas: {}{more}",
                many.len(),
                some.join(", ")
            )))
        }
    }
}

fn write_history(out: &mut impl Write, history: &History) -> std::io::Result<()> {
    let saga = &history.summary;
    let ms = millis(saga.started_at, saga.updated_at);
    let (key, state) = (plain(&saga.key), saga.state);
    writeln!(
        out,
        "{key}  {} v{}  {state}  {ms} ms",
        plain(&saga.definition),
        saga.version
    )?;
    writeln!(out, "  id       {}", saga.instance)?;
    writeln!(out, "  started  {}", saga.started_at)?;
    writeln!(out, "  updated  {}", saga.updated_at)?;
    if let Some(reason) = &saga.reason {
        writeln!(out, "  reason   {}", plain(reason))?;
    }
    if !saga.left_behind.is_empty() {
        writeln!(out, "  left     {}", plain(&saga.left_behind.join(", ")))?;
    }
    let forward = history
        .steps
        .iter()
        .map(|step| (mark(step.state), step, step.state, &step.attempts));
    let undone = history.steps.iter().rev().filter_map(|step| {
        let undo = step.undo.as_ref()?;
        Some((undo_mark(undo.state), step, undo.state, &undo.attempts))
    });
    let rows = forward.chain(undone).map(|(mark, step, state, attempts)| {
        let error = attempts.iter().rev().find_map(|attempt| attempt.error.clone());
        vec![
            format!("{} {}", mark.unwrap_or('·'), step.name),
            state.to_owned(),
            attempts.len().to_string(),
            span(attempts).to_string(),
            error.unwrap_or_default(),
        ]
    });
    out.write_all(table(&["STEP", "STATE", "TRIES", "MS", "ERROR"], rows).as_bytes())
}
