// A peer of a swarm on js-libp2p, written from swarm/README.md alone: it meets one peer, checks every message that
// gossip brings, passes on what is good, and is there itself, until it has seen rounds from end to end.
//
// node peer.mjs ADDRESS SWARM_ID PROMPTS ROUNDS
// Prints what it saw as JSON; a message that does not hold ends it with an error.
import './polyfill.mjs'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { StrictNoSign, TopicValidatorResult, gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { TOPICS, certified, check, covers, hex, messageId, read, topicName, write } from './protocol.mjs'

const HEARTBEAT_MS = 1_000
/** A swarm that ends no rounds for this long is told as an error. */
const GIVE_UP_MS = 60_000
/** Heartbeats before it leaves. */
const HEARTBEATS_MIN = 3
const [address, id, prompts, rounds] = process.argv.slice(2)
const swarm = Buffer.from(id, 'hex')
const key = await generateKeyPair('Ed25519')

const node = await createLibp2p({
  privateKey: key,
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    // What tells this swarm from others.
    identify: (components) => {
      const service = identify()(components)
      service.host.protocolVersion = `murmur/1/${hex(swarm.subarray(0, 16))}`
      return service
    },
    gossip: gossipsub({
      globalSignaturePolicy: StrictNoSign,
      msgIdFn: ({ topic, data }) => messageId(topic, data)
    })
  }
})
const gossip = node.services.gossip

/** Messages of each kind, reveals opened against their commits, and rounds that a certificate ended. */
const seen = { kinds: {}, opened: 0, ended: [] }
/** Commits of peers by round and author. */
const commits = new Map()

function take (topic, bytes) {
  const message = read(swarm, topic, bytes)
  const { kind, round, sender, body } = message
  const author = `${round} ${hex(sender)}`
  seen.kinds[kind] = (seen.kinds[kind] ?? 0) + 1
  if (kind === 'commit') commits.set(author, message)
  if (kind === 'reveal' && commits.has(author)) {
    check(covers(swarm, Number(prompts), commits.get(author), message), 'a reveal that its commit does not cover')
    seen.opened += 1
  }
  if (kind === 'certificate') {
    const statement = certified(swarm, body)
    if (!seen.ended.includes(statement.round)) seen.ended.push(statement.round)
  }
}

for (const [topic, { max }] of Object.entries(TOPICS)) {
  const name = topicName(swarm, topic)
  gossip.topicValidators.set(name, async (_, { data }) => {
    try {
      take(topic, data)
      return TopicValidatorResult.Accept
    } catch (error) {
      return end(1, `${topic}: ${error.message}`)
    }
  })
  gossip.subscribe(name)
}

let sequence = 0
let heartbeats = 0
async function heartbeat (leaving) {
  const payload = { kind: 'presence', round: 0, start: swarm, sequence: ++sequence }
  const presence = { incarnation: 1, view: 0, statement: swarm, attempt: 1, ready: false, leaving, addresses: [] }
  await gossip.publish(topicName(swarm, 'presence'), await write(swarm, key, payload, presence))
  heartbeats += 1
}

let ended = false
async function end (code, error) {
  if (ended) return
  ended = true
  console.log(JSON.stringify({ peer: hex(key.publicKey.raw), ...seen, error }))
  if (code === 0) await heartbeat('has seen enough')
  await node.stop()
  process.exit(code)
}

setTimeout(() => end(1, 'too few rounds in time'), GIVE_UP_MS)
await node.dial(multiaddr(address))
setInterval(async () => {
  try {
    if (seen.ended.length >= rounds && heartbeats >= HEARTBEATS_MIN) return await end(0)
    await heartbeat(null)
  } catch (error) {
    console.error(`${error}`)
  }
}, HEARTBEAT_MS)
