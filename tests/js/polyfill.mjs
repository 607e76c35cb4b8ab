// What libp2p needs and node has since version 22.
Promise.withResolvers ??= function withResolvers() {
  const resolvers = {}
  resolvers.promise = new this((resolve, reject) => Object.assign(resolvers, { resolve, reject }))
  return resolvers
}
