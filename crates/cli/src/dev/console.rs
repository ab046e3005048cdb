//! What is printed while the shop runs.

use std::{
    io::{ErrorKind, IsTerminal},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use sagamill::{
    bus::BoxError,
    saga::core::{History, SummaryState},
};
use sagamill_service_kit::Shutdown;
use shop_frame::Db;
use shop_order::{Following, Ledger, Orders};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use super::{
    Format,
    line::{SagaEnd, line},
};
use crate::failure::Code;

/// How often money and stock are checked.
const CHECK: Duration = Duration::from_secs(5);
/// A check takes longer the more orders there are; it must not take more than this part of the time.
const CHECK_SHARE: u32 = 20;

/// The console. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    format: Format,
    shutdown: Shutdown,
}

impl Console {
    pub(crate) fn new(format: Format, shutdown: Shutdown) -> Self {
        Self { format, shutdown }
    }
    /// Talk: for a person it stands among the sagas, for a program it stays out of them.
    pub(crate) async fn say(&self, text: &str) {
        match self.format {
            Format::Json => eprintln!("{text}"),
            // What cannot be written is noticed by the sagas' lines, which matter more.
            Format::Pretty => self.write(text).await.unwrap_or_default(),
        }
    }
    async fn write(&self, text: &str) -> std::io::Result<()> {
        let mut out = tokio::io::stdout();
        out.write_all(format!("{text}\n").as_bytes()).await?;
        out.flush().await
    }
    /// Prints each saga that has ended or was parked.
    pub(crate) fn printer(&self) -> impl Fn(History) -> Following + Clone + Send + Sync + use<> {
        let console = self.clone();
        move |history| {
            let console = console.clone();
            Box::pin(async move { console.print(&history).await })
        }
    }
    async fn print(&self, history: &History) -> Result<(), BoxError> {
        if history.summary.state == SummaryState::Running {
            return Ok(());
        }
        let text = match self.format {
            Format::Json => serde_json::to_string(&SagaEnd::from(history))?,
            Format::Pretty => format!("{}  {}", time(history.summary.updated_at), coloured(history)),
        };
        match self.write(&text).await {
            // Whoever read this has gone, and the shop was for them.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.shutdown.begin();
                Ok(())
            }
            written => Ok(written?),
        }
    }
    /// Says every few seconds whether money and stock are conserved.
    pub(crate) async fn watch_ledger<D: Db>(&self, orders: &Orders<D>, stop: CancellationToken) {
        let mut pause = CHECK;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let begun = Instant::now();
            self.check(orders).await;
            pause = CHECK.max(begun.elapsed() * CHECK_SHARE);
        }
    }
    /// The last check, when nothing comes in any more.
    pub(crate) async fn last_ledger<D: Db>(&self, orders: &Orders<D>) -> Code {
        match self.check(orders).await {
            Some(ledger) if !ledger.balanced => Code::Unverified,
            _ => Code::Success,
        }
    }
    async fn check<D: Db>(&self, orders: &Orders<D>) -> Option<Ledger> {
        let ledger = match orders.ledger().await {
            Ok(ledger) => ledger,
            Err(error) => {
                tracing::warn!(%error, "money and stock cannot be checked now");
                return None;
            }
        };
        self.say(&summary(&ledger)).await;
        for discrepancy in &ledger.discrepancies {
            let order = discrepancy.order.as_ref().map_or("the books", |order| order.as_str());
            self.say(&format!("  {order}: {}", discrepancy.what)).await;
        }
        Some(ledger)
    }
}

fn summary(ledger: &Ledger) -> String {
    let verdict = if ledger.balanced { "balanced" } else { "NOT BALANCED" };
    let (orders, money, stock) = (&ledger.orders, &ledger.money, &ledger.stock);
    format!(
        "{}  ledger {verdict}: {} completed, {} compensated, {} parked, {} in flight; \
         money {} captured of {} due, {} held; stock {} sold of {} due, {} held, {} of {} left",
        time(Timestamp::now()),
        orders.completed,
        orders.compensated,
        orders.parked,
        ledger.in_flight,
        money.merchant,
        money.completed,
        money.held,
        stock.held - stock.in_flight,
        stock.completed,
        stock.in_flight,
        stock.available,
        stock.initial,
    )
}

fn time(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}

fn coloured(history: &History) -> String {
    let text = line(history);
    if !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return text;
    }
    let colour = match history.summary.state {
        SummaryState::Completed => 32,
        SummaryState::Compensated => 33,
        _ => 31,
    };
    match text.split_once(" → ") {
        Some((steps, outcome)) => format!("{steps} → \u{1b}[{colour}m{outcome}\u{1b}[0m"),
        None => text,
    }
}
