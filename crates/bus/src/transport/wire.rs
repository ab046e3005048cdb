//! The form in which a broker carries messages, for others who read them there.

use crate::{Error, Result};

/// The form in which messages are published. Both are read, whichever is chosen; dead letters and what was requeued are ours
/// alone and keep their form.
///
/// Chosen by an option of the transport, or in its URL: `kafka://host:9092?wire=watermill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Wire {
    /// `cloudevents`: CloudEvents' binding for the broker. It carries every message that the bus takes.
    #[default]
    CloudEvents,
    /// `watermill`: as services on Watermill for Go read and write. The id is the header `_watermill_message_uuid`, every
    /// header is one of its metadata, by its own name and as plain text; the key travels beside them. What cannot be carried
    /// so is refused with [`Error::InvalidHeader`] or [`Error::TooLarge`], and never changed.
    Watermill,
}

impl Wire {
    /// Takes the form that a URL asks for out of it; none where it asks for none.
    pub(crate) fn take(url: &mut String) -> Result<Option<Self>> {
        let (mut wire, mut rest) = (None, Vec::new());
        let Some((before, query)) = url.rsplit_once('?') else {
            return Ok(None);
        };
        for pair in query.split('&') {
            match pair.strip_prefix("wire=") {
                Some(name) => wire = Some(Self::named(name)?),
                None => rest.push(pair),
            }
        }
        *url = if rest.is_empty() {
            before.to_owned()
        } else {
            format!("{before}?{}", rest.join("&"))
        };
        Ok(wire)
    }
    fn named(name: &str) -> Result<Self> {
        match name {
            "cloudevents" => Ok(Self::CloudEvents),
            "watermill" => Ok(Self::Watermill),
            _ => Err(Error::Unusable(
                format!("the URL asks for `wire={name}`: write `wire=cloudevents` or `wire=watermill`").into(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Wire;

    #[test]
    fn a_url_names_the_form_among_what_else_it_asks_for() {
        let plain = "kafka://u:w?rd@a:1,b:2";
        let cases = [
            (plain, None, plain),
            ("nats://a:1?wire=watermill", Some(Wire::Watermill), "nats://a:1"),
            (
                "amqp://a/%2f?heartbeat=3&wire=watermill&x=1",
                Some(Wire::Watermill),
                "amqp://a/%2f?heartbeat=3&x=1",
            ),
            ("nats://a?wire=cloudevents", Some(Wire::CloudEvents), "nats://a"),
        ];
        for (url, wire, rest) in cases {
            let mut left = url.to_owned();
            assert_eq!(Wire::take(&mut left).unwrap(), wire, "{url}");
            assert_eq!(left, rest);
        }
        let error = Wire::take(&mut "nats://u:secret@a?wire=waterfall".to_owned()).unwrap_err();
        let text = crate::error::chain(&error);
        assert!(text.contains("waterfall") && !text.contains("secret"), "{text}");
    }
}
