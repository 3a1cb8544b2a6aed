// js-libp2p 3 is written for Node 22; this is all that Node 20 lacks.
Promise.withResolvers ??= function withResolvers() {
  const deferred = {}
  deferred.promise = new Promise((resolve, reject) => Object.assign(deferred, { resolve, reject }))
  return deferred
}
