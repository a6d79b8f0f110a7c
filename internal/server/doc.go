// Package server owns the process: it wires every other package together, binds the listeners, serves health and the
// public files of the CAs, renews the server's own certificate, and says in which order everything stops.
//
// It must never decide anything about certificates: names, keys and lifetimes are policy's, signatures are issue's and
// revoke's. It trusts the settings, which config has checked, and nothing that comes in on a listener.
package server
