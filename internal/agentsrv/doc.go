// Package agentsrv owns the server side of the agent protocol (internal/agentapi): it finds out which agent calls, and
// turns what the agent asks for into requests to issue.
//
// It must never decide what a certificate may say: that is policy's, asked by issue for every item. It trusts an agent to
// tell which workload it has authenticated (that is what agents are for), within the limits of the agent's credential and
// profile, and trusts nothing else of a message.
//
// An agent is known by its certificate, and the certificate by the inventory: the row with its serial has to be that very
// certificate, not revoked, issued for a credential that may still be used. No chain is verified, since nothing that is
// not in the inventory can pass, whoever signed it.
package agentsrv
