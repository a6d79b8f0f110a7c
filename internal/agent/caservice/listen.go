package caservice

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	istio "istio.io/api/security/v1alpha1"

	"github.com/certloom/certloom/internal/telemetry"
)

// Limits of the listener: no peer may hold much for nothing.
const (
	maxMessage = 1 << 20 // readCSR refuses what is far below
	maxHeader  = 64 << 10
	maxStreams = 100 // of a connection; a workload has one call at a time
	bufferSize = 4 << 10
	// windowSize is HTTP/2's usual one. gRPC would measure for a larger one, with a ping and its answer for nearly each call.
	windowSize       = 64 << 10
	handshakeTimeout = 10 * time.Second
	// A workload calls twice an hour. Its client connects again by itself, perhaps to another replica.
	maxIdle = 15 * time.Minute
	// Istio's clients ping every 30 s.
	minPing   = 10 * time.Second
	pingEvery = 30 * time.Second
	// drainTime is how long calls may take to end when the agent stops; calls have a timeout of their own.
	drainTime = 15 * time.Second
)

// TLS returns the settings of the listener. certificate is asked at each handshake.
func (s *Service) TLS(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	secure := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, GetCertificate: certificate,
		SessionTicketsDisabled: true, Time: s.config.Now,
	}
	if s.config.ClientCertificates {
		// Verified in authenticate, so that a caller with a certificate of somebody else's can still use its token, and so
		// that the roots of this moment count.
		secure.ClientAuth = tls.RequestClientCert
	}
	return secure
}

// Serve serves on the listener until ctx ends, and then lets calls end.
func (s *Service) Serve(ctx context.Context, listener net.Listener, secure *tls.Config) error {
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(secure)), grpc.UnaryInterceptor(s.contain),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxHeaderListSize(maxHeader), grpc.MaxConcurrentStreams(maxStreams),
		grpc.ReadBufferSize(bufferSize), grpc.WriteBufferSize(bufferSize),
		grpc.StaticStreamWindowSize(windowSize), grpc.StaticConnWindowSize(windowSize),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: maxIdle, Time: pingEvery, Timeout: handshakeTimeout}),
	)
	istio.RegisterIstioCertificateServiceServer(server, s)
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener) }()
	select {
	case err := <-stopped:
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	drained := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(drained)
	}()
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-drained:
	case <-timer.C:
		server.Stop()
		<-drained
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	}
	return nil
}

// contain turns a panic of one call into an answer: the mesh needs the agent more than it needs that call.
func (s *Service) contain(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (response any, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.config.Logger.ErrorContext(ctx, "panic in a call", telemetry.KeyError, fmt.Sprint(p), "stack", string(debug.Stack()))
			response, err = nil, status.Error(codes.Internal, notSigned)
		}
	}()
	return handler(ctx, request)
}
