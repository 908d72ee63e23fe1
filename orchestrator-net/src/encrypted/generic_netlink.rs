//! A socket to the kernel's WireGuard: one question at a time, waited for.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_wireguard::{
    WireguardAttribute as Attribute, WireguardCmd, WireguardMessage as Message,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

/// What the kernel calls its WireGuard.
const FAMILY: &str = "wireguard";
/// The most messages that describe one device; each holds some hundred other ends.
const MESSAGES_MAX: usize = 4_096;

/// The kernel's WireGuard. Nothing that passes here is logged: there are private keys among it.
pub(super) struct GenericNetlink {
    socket: Socket,
    family: u16,
}

impl GenericNetlink {
    /// Opens it, in the network of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let question = GenlCtrl {
            cmd: GenlCtrlCmd::GetFamily,
            nlas: vec![GenlCtrlAttrs::FamilyName(FAMILY.to_owned())],
        };
        let answers = ask(&socket, GenlMessage::from_payload(question), NLM_F_ACK)?;
        let attributes = answers.iter().flat_map(|answer| &answer.payload.nlas);
        let mut numbers = attributes.filter_map(|attribute| match attribute {
            GenlCtrlAttrs::FamilyId(number) => Some(*number),
            _ => None,
        });
        let family = numbers.next().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Self { socket, family })
    }

    /// What a device is set to.
    pub(super) fn read(&self, device: u32) -> io::Result<Vec<Attribute>> {
        let attributes = vec![Attribute::IfIndex(device)];
        let answers = self.ask(WireguardCmd::GetDevice, attributes, NLM_F_DUMP)?;
        Ok(answers.into_iter().flat_map(|answer| answer.payload.attributes).collect())
    }

    /// Sets a device.
    pub(super) fn write(&self, device: u32, mut attributes: Vec<Attribute>) -> io::Result<()> {
        attributes.insert(0, Attribute::IfIndex(device));
        self.ask(WireguardCmd::SetDevice, attributes, NLM_F_ACK).map(drop)
    }

    fn ask(
        &self,
        cmd: WireguardCmd,
        attributes: Vec<Attribute>,
        flags: u16,
    ) -> io::Result<Vec<GenlMessage<Message>>> {
        let mut message = GenlMessage::from_payload(Message { cmd, attributes });
        message.set_resolved_family_id(self.family);
        ask(&self.socket, message, flags)
    }
}

/// Asks and waits until all is answered.
fn ask<M>(socket: &Socket, message: M, flags: u16) -> io::Result<Vec<M>>
where
    M: NetlinkSerializable + NetlinkDeserializable,
    NetlinkPayload<M>: From<M>,
{
    let mut question = NetlinkMessage::from(message);
    question.header.flags = NLM_F_REQUEST | flags;
    question.finalize();
    let mut bytes = vec![0; question.buffer_len()];
    question.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    while answers.len() < MESSAGES_MAX {
        let (received, _) = socket.recv_from_full()?;
        let mut rest = received.as_slice();
        while !rest.is_empty() {
            let answer = NetlinkMessage::<M>::deserialize(rest).map_err(io::Error::other)?;
            let length = usize::try_from(answer.header.length).unwrap_or(usize::MAX);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => answers.push(message),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Done(done) if done.code != 0 => {
                    return Err(io::Error::from_raw_os_error(-done.code));
                }
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                _ => {}
            }
        }
    }
    Err(io::Error::other("the kernel's answer has no end"))
}
