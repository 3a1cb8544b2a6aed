// A js-libp2p peer for the interop test: `node peer.mjs <private network key as hex>`.
//
// It echoes /echo/1, and prints where it listens as one JSON line. Each line it reads is
// a multiaddr: it dials it, has a message echoed, and prints how that went as another.
// It ends with its standard input.

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { preSharedKey } from '@libp2p/pnet'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { createInterface } from 'node:readline'

const PROTOCOL = '/echo/1'
const MESSAGE = new Uint8Array(1024 * 1024).map((_, index) => index % 251) // larger than any window
const PATIENCE = () => ({ signal: AbortSignal.timeout(10_000) })

const say = (fact) => console.log(JSON.stringify(fact))

async function send(stream, data) {
  if (!stream.send(data)) await stream.onDrain(PATIENCE())
}

async function echo(stream) {
  for await (const data of stream) await send(stream, data)
  await stream.close()
}

async function haveEchoed(address) {
  const stream = await peer.dialProtocol(multiaddr(address), PROTOCOL, PATIENCE())
  const echoed = (async () => {
    const pieces = []
    for await (const data of stream) pieces.push(data.subarray())
    return Buffer.concat(pieces)
  })()
  await send(stream, MESSAGE)
  await stream.close()
  return { echoed: Buffer.compare(await echoed, MESSAGE) === 0 }
}

const peer = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  connectionEncrypters: [noise()],
  connectionProtector: preSharedKey({
    psk: new TextEncoder().encode(`/key/swarm/psk/1.0.0/\n/base16/\n${process.argv[2]}\n`)
  }),
  streamMuxers: [yamux()],
  transports: [tcp()]
})
await peer.handle(PROTOCOL, echo)
say({ listen: peer.getMultiaddrs()[0].toString() })

for await (const address of createInterface({ input: process.stdin })) {
  say(await haveEchoed(address).catch((error) => ({ error: `${error.name}: ${error.message}` })))
}
await peer.stop()
process.exit()
