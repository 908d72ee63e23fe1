//! `Link`: a connection to one member, with the login there, and the calls that are made on it.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::uri::PathAndQuery;
use orchestrator_core::store::BoxError;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::failure::{At, Failure};
use crate::members::Member;
use crate::options::EtcdUser;
use crate::wire::{AuthenticateRequest, AuthenticateResponse, WatchRequest, WatchResponse};

/// The most bytes of an answer.
const RESPONSE_BYTES_MAX: usize = 32 << 20;
const AUTHENTICATE: PathAndQuery = PathAndQuery::from_static("/etcdserverpb.Auth/Authenticate");
const WATCH: PathAndQuery = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");

/// A connection to a member, with the login there.
#[derive(Clone)]
pub(crate) struct Link {
    channel: Channel,
    /// Which one it is of those made.
    pub number: usize,
    /// The member's `host:port`.
    pub member: String,
    token: Option<MetadataValue<Ascii>>,
}

impl Link {
    /// Connects to a member and logs in there. A failure means that the member is of no use now, unless it refuses the login.
    pub(crate) async fn connect(
        member: &Member,
        number: usize,
        user: Option<&EtcdUser>,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let name = &member.name;
        let connected = member.connect().await;
        let channel = connected.map_err(|error| Failure::Elsewhere(At::new(name, error)))?;
        let mut link = Self { channel, number, member: name.clone(), token: None };
        if let Some(EtcdUser { name, password }) = user {
            let login = AuthenticateRequest { name: name.clone(), password: password.clone() };
            let answer = link.unary(AUTHENTICATE, login, patience).await;
            let AuthenticateResponse { token } = answer.map_err(Failure::nothing_done)?;
            let token = token.parse().map_err(|error| link.elsewhere(error))?;
            link.token = Some(token);
        }
        Ok(link)
    }

    /// Makes one call and waits for its answer.
    pub(crate) async fn unary<Q, A>(
        &self,
        path: PathAndQuery,
        message: Q,
        patience: Duration,
    ) -> Result<A, Failure>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        if let Err(error) = grpc.ready().await {
            return Err(self.elsewhere(error));
        }
        let mut request = self.request(message);
        // etcd gives up then, too.
        request.set_timeout(patience);
        match timeout(patience, grpc.unary(request, path, ProstCodec::default())).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Failure::of_status(&self.member, status)),
            Err(_) => Err(Failure::Unknown(late(&self.member))),
        }
    }

    /// Asks for a watch and waits until etcd has agreed to it.
    pub(crate) async fn watch(
        &self,
        request: WatchRequest,
    ) -> Result<Streaming<WatchResponse>, Failure> {
        let failed = |status| Failure::of_status(&self.member, status);
        let mut grpc = self.grpc();
        if let Err(error) = grpc.ready().await {
            return Err(self.elsewhere(error));
        }
        // The end of the requests would end the watch.
        let requests = self.request(stream::once(async { request }).chain(stream::pending()));
        let begun = grpc.streaming(requests, WATCH, ProstCodec::default()).await;
        let mut responses: Streaming<WatchResponse> = begun.map_err(failed)?.into_inner();
        match responses.message().await.map_err(failed)? {
            Some(first) if first.created && !first.canceled => Ok(responses),
            // It says the same of a login that it no longer knows as of one that may not.
            Some(refused) => Err(self.elsewhere(refused.cancel_reason)),
            None => Err(self.elsewhere("it ended the watch")),
        }
    }

    /// A failure of this member that did nothing.
    pub(crate) fn elsewhere(&self, error: impl Into<BoxError>) -> Failure {
        Failure::Elsewhere(At::new(&self.member, error))
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        // A member that has lost touch with the others says so instead of waiting.
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        request
    }
}

/// The error when there is no answer in time.
pub(crate) fn late(endpoint: &str) -> At {
    At::new(endpoint, Status::new(Code::DeadlineExceeded, "no answer in time"))
}
