// The messages of a swarm as swarm/README.md has them: what a peer must check before it believes one.
import { createPublicKey, verify } from 'node:crypto'
import { decode, encode } from '@msgpack/msgpack'
import { blake3 } from '@noble/hashes/blake3.js'

export const VERSION = 2
const KIB = 1024
/** Kinds and bytes at most of each topic. */
export const TOPICS = {
  presence: { kinds: ['presence'], max: 4 * KIB },
  answers: { kinds: ['commit', 'reveal'], max: 64 * KIB },
  votes: { kinds: ['critique', 'ballot'], max: 64 * KIB },
  control: { kinds: ['proposal', 'signature', 'certificate'], max: 48 * KIB },
  proofs: { kinds: ['proof'], max: 129 * KIB }
}
const ENVELOPE = 'murmur v1 envelope'
const STATEMENT = 'murmur v1 statement'
/** How an ed25519 key begins as SubjectPublicKeyInfo (RFC 8410). */
const SPKI = Buffer.from('302a300506032b6570032100', 'hex')

export const hex = (bytes) => Buffer.from(bytes).toString('hex')
export const utf8 = (text) => Buffer.from(text, 'utf8')
export const topicName = (swarm, topic) => `/murmur/${hex(swarm.subarray(0, 4))}/${topic}/1`

/** Equal bytes on one topic are one message. */
export const messageId = (topic, data) => blake3(Buffer.concat([utf8(topic), data])).subarray(0, 20)

/** H(domain; parts…). */
export function hash (domain, ...parts) {
  const pieces = parts.flatMap((part) => {
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(part.length))
    return [length, part]
  })
  return blake3(Buffer.concat(pieces), { context: utf8(domain) })
}

export function u16 (number) {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16LE(number)
  return bytes
}

export function u32 (number) {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(number)
  return bytes
}

/** What is signed: the domain's length, the domain, the bytes. */
export const signable = (domain, bytes) => Buffer.concat([Buffer.of(domain.length), utf8(domain), bytes])

function signedBy (key, domain, bytes, signature) {
  const der = Buffer.concat([SPKI, key])
  return verify(null, signable(domain, bytes), createPublicKey({ key: der, format: 'der', type: 'spki' }), signature)
}

/** Fails unless that holds. */
export function check (holds, what) {
  if (!holds) throw new Error(what)
}

/** A message, after every check that needs nothing but its bytes. */
export function read (swarm, topic, bytes) {
  const { kinds, max } = TOPICS[topic]
  check(bytes.length <= max, `${bytes.length} bytes on ${topic}`)
  const { payload: raw, signature } = decode(bytes)
  const payload = decode(raw)
  check(payload.version === VERSION, `version ${payload.version}`)
  check(hex(payload.swarm) === hex(swarm), `swarm ${hex(payload.swarm)}`)
  check(kinds.includes(payload.kind), `${payload.kind} on ${topic}`)
  check(signedBy(payload.sender, ENVELOPE, raw, signature), `a bad signature under a ${payload.kind}`)
  return { ...payload, body: decode(payload.body) }
}

/** An envelope around a body of this peer's. */
export async function write (swarm, key, payload, body) {
  const raw = encode({ version: VERSION, swarm, ...payload, sender: key.publicKey.raw, body: encode(body) })
  return encode({ payload: raw, signature: await key.sign(signable(ENVELOPE, raw)) })
}

/** A certificate's statement, if everybody named under it has signed it. */
export function certified (swarm, { statement, signatures }) {
  const named = hash(STATEMENT, statement)
  for (const { peer, signature } of signatures) {
    check(signedBy(peer, STATEMENT, Buffer.concat([swarm, named]), signature), 'a bad signature on a statement')
  }
  return decode(statement)
}

/** Whether a commit covers the answers to one of so many prompts. */
export function covers (swarm, prompts, commit, reveal) {
  const { prompt, nonce, policy, numerics, completions, proof } = reveal.body
  const texts = completions.map(utf8).flatMap((text) => [u32(text.length), text])
  let node = hash('murmur v1 merkle leaf', Buffer.concat([u16(prompt), ...texts]))
  const siblings = [...proof]
  for (let at = prompt, width = prompts; width > 1; at >>= 1, width = (width + 1) >> 1) {
    if ((at ^ 1) >= width) continue
    const sibling = siblings.shift() ?? Buffer.alloc(32)
    node = hash('murmur v1 merkle node', ...(at & 1 ? [sibling, node] : [node, sibling]))
  }
  const { round, sender } = reveal
  const opened = hash('murmur v1 commitment', swarm, u32(round), sender, nonce, node, policy, utf8(numerics))
  return siblings.length === 0 && hex(opened) === hex(commit.body.commitment)
}
