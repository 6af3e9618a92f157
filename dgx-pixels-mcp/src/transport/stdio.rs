//! Standard input and output: a message a line, for one client.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::channel::mpsc::{self, SendError, Sender};
use futures::{Sink, SinkExt as _, StreamExt as _};
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, JsonRpcMessage, RequestId, ServerJsonRpcMessage, ServerResult,
};
use rmcp::{ServerHandler, ServiceExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::message::{self, Fault, Incoming, Opening};
use super::{TransportError, soon_after};

/// The longest line of a client.
const MAX_LINE: usize = 4 << 20;
/// Answers that wait for the client to read them. The server waits for it then.
const MAX_UNREAD: usize = 16;
/// The time that a client may take to read the last answers when the server ends.
const TIME_TO_READ: Duration = Duration::from_secs(2);

/// Serves one client over standard input and output, until the input ends or `stop` is called;
/// calls that are running then have a moment to answer.
///
/// # Errors
/// [`TransportError::Failed`] if the client does not begin as MCP has it.
pub async fn serve_stdio<H: ServerHandler>(
    handler: H,
    stop: CancellationToken,
) -> Result<(), TransportError> {
    let (read, write) = rmcp::transport::io::stdio_pipes();
    serve(handler, read, write, stop).await
}

async fn serve<H: ServerHandler>(
    handler: H,
    read: impl AsyncRead + Unpin + Send + 'static,
    write: impl AsyncWrite + Unpin + Send + 'static,
    stop: CancellationToken,
) -> Result<(), TransportError> {
    let (lines, unwritten) = mpsc::channel(MAX_UNREAD);
    let (messages, received) = mpsc::channel(0);
    let answers = Answers { lines: lines.clone(), batches: Batches::default() };
    let reader = Reader { messages, answers: answers.clone(), opening: Opening::default() };
    let written = tokio::spawn(write_lines(write, unwritten));
    let reading = tokio::spawn(reader.run(BufReader::new(read)));
    drop(lines);

    let failed = |error: &dyn std::fmt::Display| TransportError::Failed(error.to_string());
    let cancel = soon_after(&stop);
    let begun = tokio::select! {
        begun = handler.serve_with_ct((answers, received), cancel) => Some(begun),
        () = stop.cancelled() => None,
    };
    let ended = match begun {
        None => Ok(()),
        Some(Ok(running)) => running.waiting().await.map(drop).map_err(|error| failed(&error)),
        // A client that only looks whether the program starts.
        Some(Err(rmcp::service::ServerInitializeError::ConnectionClosed(_))) => Ok(()),
        Some(Err(error)) => Err(failed(&error)),
    };
    reading.abort();
    let _ = reading.await;
    let _ = timeout(TIME_TO_READ, written).await;
    ended
}

async fn write_lines(mut write: impl AsyncWrite + Unpin, mut lines: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = lines.next().await {
        let written = async {
            write.write_all(&line).await?;
            write.flush().await
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, "the client reads no more");
            return;
        }
    }
}

/// Reads the lines of the client.
struct Reader {
    messages: Sender<ClientJsonRpcMessage>,
    answers: Answers,
    opening: Opening,
}

impl Reader {
    async fn run(mut self, mut input: BufReader<impl AsyncRead + Unpin>) {
        let mut line = Vec::new();
        loop {
            match next_line(&mut input, &mut line).await {
                Ok(Some(true)) => {}
                Ok(Some(false)) => {
                    let reason = format!("the line is too long; expected at most {MAX_LINE} bytes");
                    if self.answers.refuse(Fault::invalid(None, reason)).await.is_err() {
                        return;
                    }
                    continue;
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "the input ended");
                    return;
                }
            }
            if !line.trim_ascii().is_empty() && self.take(line.trim_ascii()).await.is_err() {
                return;
            }
        }
    }

    async fn take(&mut self, line: &[u8]) -> Result<(), SendError> {
        match message::read(line) {
            Ok(Incoming::One(message)) => self.pass(*message).await,
            Ok(Incoming::Batch(messages)) => self.take_batch(messages).await,
            Err(fault) => self.answers.refuse(fault).await,
        }
    }

    async fn pass(&mut self, message: ClientJsonRpcMessage) -> Result<(), SendError> {
        if let JsonRpcMessage::Notification(notice) = &message
            && let ClientNotification::CancelledNotification(cancelled) = &notice.notification
            && let Some(id) = &cancelled.params.request_id
        {
            // It is not answered any more, and the rest of its batch does not wait for it.
            let whole = self.answers.batches.lock().settle(id, None);
            self.answers.write(whole).await?;
        }
        if self.opening.may_pass(&message) { self.messages.send(message).await } else { Ok(()) }
    }

    async fn take_batch(&mut self, texts: Vec<Vec<u8>>) -> Result<(), SendError> {
        // A client that has not said its revision has begun none that has batches.
        let version = self.answers.batches.lock().version.clone();
        if let Some(fault) = message::fault_of_batch(Some(version.as_deref().unwrap_or("unknown"))) {
            return self.answers.refuse(fault).await;
        }
        let (mut messages, mut batch) = (vec![], Batch::default());
        for text in texts {
            let read = message::read_one(&text);
            match read.map(|message| (message::fault_in_batch(&message), message)) {
                Ok((Some(fault), _)) | Err(fault) => batch.answers.push(json!(fault.message())),
                Ok((None, message)) => {
                    if let JsonRpcMessage::Request(request) = &message {
                        batch.open.push(request.id.clone());
                    }
                    messages.push(message);
                }
            }
        }
        let whole = self.answers.batches.lock().begin(batch);
        self.answers.write(whole).await?;
        for message in messages {
            self.pass(message).await?;
        }
        Ok(())
    }
}

/// Reads the next line into `line`: `true` if it is whole, `false` if it was too long and was
/// skipped, `None` at the end of the input. A last line without an end is no message.
async fn next_line(
    input: &mut BufReader<impl AsyncRead + Unpin>,
    line: &mut Vec<u8>,
) -> std::io::Result<Option<bool>> {
    line.clear();
    let mut fits = true;
    loop {
        let bytes = input.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let count = end.map_or(bytes.len(), |end| end + 1);
        fits &= line.len() + count <= MAX_LINE;
        if fits {
            line.extend_from_slice(&bytes[..count]);
        } else {
            line.clear();
        }
        input.consume(count);
        if end.is_some() {
            return Ok(Some(fits));
        }
    }
}

/// The way of answers to the client. Those to the requests of a batch wait for each other.
#[derive(Clone)]
struct Answers {
    lines: Sender<Vec<u8>>,
    batches: Batches,
}

impl Answers {
    async fn refuse(&mut self, fault: Fault) -> Result<(), SendError> {
        self.write(Some(json!(fault.message()))).await
    }

    async fn write(&mut self, message: Option<Value>) -> Result<(), SendError> {
        match message {
            Some(message) => self.lines.send(line(&message)).await,
            None => Ok(()),
        }
    }
}

fn line(message: &Value) -> Vec<u8> {
    format!("{message}\n").into_bytes()
}

impl Sink<ServerJsonRpcMessage> for Answers {
    type Error = SendError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.lines.poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: ServerJsonRpcMessage) -> Result<(), SendError> {
        let id = match &message {
            JsonRpcMessage::Response(response) => {
                if let ServerResult::InitializeResult(begun) = &response.result {
                    self.batches.lock().version = Some(begun.protocol_version.as_str().to_owned());
                }
                Some(&response.id)
            }
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            _ => None,
        };
        let text = json!(message);
        let whole = match id {
            Some(id) => self.batches.lock().settle(id, Some(text)),
            None => Some(text),
        };
        whole.map_or(Ok(()), |whole| self.lines.start_send(line(&whole)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Clone, Default)]
struct Batches(Arc<Mutex<Open>>);

impl Batches {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The batches that are being answered.
#[derive(Default)]
struct Open {
    /// The revision that was agreed on.
    version: Option<String>,
    next: u64,
    batches: HashMap<u64, Batch>,
}

#[derive(Default)]
struct Batch {
    open: Vec<RequestId>,
    answers: Vec<Value>,
}

impl Open {
    /// The answers, if none has to be waited for.
    fn begin(&mut self, batch: Batch) -> Option<Value> {
        if batch.open.is_empty() {
            return (!batch.answers.is_empty()).then(|| batch.answers.into());
        }
        self.next += 1;
        self.batches.insert(self.next, batch);
        None
    }

    /// Takes the answer to `id`, or that there will be none. Returns what can be written now: the
    /// answer itself where it belongs to no batch, or the batch that it was the last of.
    fn settle(&mut self, id: &RequestId, answer: Option<Value>) -> Option<Value> {
        let of = |batch: &Batch| batch.open.iter().position(|open| open == id);
        let found = self.batches.iter_mut().find_map(|(key, batch)| Some((*key, of(batch)?, batch)));
        let Some((key, place, batch)) = found else { return answer };
        batch.open.swap_remove(place);
        batch.answers.extend(answer);
        if !batch.open.is_empty() {
            return None;
        }
        let batch = self.batches.remove(&key)?;
        (!batch.answers.is_empty()).then(|| batch.answers.into())
    }
}
