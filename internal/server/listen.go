package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/certloom/certloom/internal/config"
)

// Listeners are bound before anything else is opened or created, so that a start that fails because an address is
// taken leaves nothing behind.
type Listeners struct {
	HTTPS  net.Listener
	Agent  net.Listener // nil when it is off
	HTTP   net.Listener // nil when it is off
	Health net.Listener
}

// Bind binds all addresses. The error has a line for each that could not be bound; nothing stays bound then.
func Bind(ctx context.Context, l config.Listen) (*Listeners, error) {
	var bound Listeners
	var problems []error
	var network net.ListenConfig
	for _, item := range []struct {
		setting, address string
		to               *net.Listener
	}{
		{"listen.https", l.HTTPS, &bound.HTTPS}, {"listen.agent", l.Agent, &bound.Agent}, {"listen.http", l.HTTP, &bound.HTTP}, {"listen.health", l.Health, &bound.Health},
	} {
		if item.address == "" {
			continue
		}
		listener, err := network.Listen(ctx, "tcp", item.address)
		if err != nil {
			if op, ok := errors.AsType[*net.OpError](err); ok {
				err = op.Err // without the address, once more
			}
			problems = append(problems, fmt.Errorf("%s: cannot listen on %s: %w", item.setting, item.address, err))
			continue
		}
		*item.to = listener
	}
	if len(problems) > 0 {
		bound.Close()
		return nil, errors.Join(problems...)
	}
	return &bound, nil
}

// Close closes what is bound. Serving closes them as well; closing twice is harmless.
func (l *Listeners) Close() {
	for _, listener := range []net.Listener{l.HTTPS, l.Agent, l.HTTP, l.Health} {
		if listener != nil {
			_ = listener.Close() // it may be closed already
		}
	}
}

// Limits of every HTTP server: no peer may hold a connection for nothing.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 2 * time.Minute // exports of the inventory are long
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 32 << 10
	maxStreams        = 250 // HTTP/2 streams of a connection
	// drainTime is how long requests may take to end when the server stops.
	drainTime = 20 * time.Second
)

// serve returns a task that serves handler on the listener until its context ends, and then lets requests end.
func serve(listener net.Listener, handler http.Handler, secure *tls.Config, logger *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		server := &http.Server{
			Handler:           guard(handler, logger),
			TLSConfig:         secure,
			ReadHeaderTimeout: readHeaderTimeout,
			ReadTimeout:       readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
			// Handshakes that fail are the network's noise, and whoever scans us can make any number of them.
			ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		}
		stopped := make(chan error, 1)
		go func() {
			if secure != nil {
				stopped <- server.ServeTLS(listener, "", "")
				return
			}
			stopped <- server.Serve(listener)
		}()
		select {
		case err := <-stopped:
			return fmt.Errorf("serve %s: %w", listener.Addr(), err)
		case <-ctx.Done():
		}
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		err := server.Shutdown(drain)
		if ended := <-stopped; err == nil && !errors.Is(ended, http.ErrServerClosed) {
			err = ended
		}
		if err != nil {
			// What is still running must not outlive the database.
			return fmt.Errorf("requests still running on %s: %w", listener.Addr(), errors.Join(err, server.Close()))
		}
		return nil
	}
}
