package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/certloom/certloom/internal/alert"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/job"
	"github.com/certloom/certloom/internal/notify"
)

const (
	// deliverEvery is how often deliveries are looked for that are due again; new ones go out with the evaluation that has
	// led to them.
	deliverEvery = 10 * time.Second
	cleanEvery   = time.Hour
)

// assembleAlerts makes what decides when people are told, and what tells them.
func (p *Parts) assembleAlerts() error {
	var allowed []netip.Prefix
	for _, network := range p.Settings.Alerts.AllowedNetworks {
		prefix, err := netip.ParsePrefix(network)
		if err != nil {
			return fmt.Errorf("alerts.allowedNetworks: %w", err)
		}
		allowed = append(allowed, prefix)
	}
	var err error
	p.Notifier, err = notify.New(notify.Config{
		Store: p.Store, Vault: p.Vault, Now: p.Now, Jitter: p.jitter, BaseURL: p.baseURL(), Allowed: allowed, Logger: p.Logger, Registerer: p.Registry,
	})
	if err != nil {
		return fmt.Errorf("notifier: %w", err)
	}
	p.Alerts, err = alert.New(alert.Config{
		Store: p.Store, Facts: p.Store, CAs: p.cas, Profiles: p.profiles, BaseURL: p.baseURL(), Now: p.Now, Random: p.Random, Logger: p.Logger,
		Registry: p.Registry,
	})
	if err != nil {
		return fmt.Errorf("alerts: %w", err)
	}
	return nil
}

// jitter is a number from 0 to 1.
func (p *Parts) jitter() float64 {
	var raw [4]byte
	if _, err := io.ReadFull(p.Random, raw[:]); err != nil {
		return 0
	}
	return float64(binary.BigEndian.Uint32(raw[:])) / (1 << 32)
}

// jobs makes what runs the jobs that replicas share.
func (p *Parts) jobs(ctx context.Context) (*job.Runner, error) {
	if err := p.setupAlerts(ctx); err != nil {
		return nil, err
	}
	driver, err := p.Store.Jobs(ctx)
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	runner, err := job.New(driver, job.Config{Now: p.Now, Logger: p.Logger, Registerer: p.Registry, Jobs: []job.Periodic{
		{Name: "alerts", Every: time.Duration(p.Settings.Alerts.Interval), Run: p.alert},
		{Name: "deliveries", Every: deliverEvery, Run: p.Notifier.Deliver},
		{Name: "old-alerts", Every: cleanEvery, Run: p.Alerts.Clean},
	}})
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	return runner, nil
}

// alert evaluates the rules and sends at once what they have led to.
func (p *Parts) alert(ctx context.Context) error {
	if err := p.Alerts.Evaluate(ctx); err != nil {
		return err
	}
	return p.Notifier.Deliver(ctx)
}

// alertsSetting says that the usual rules were made. They are made once: whoever deletes one does not want it.
const alertsSetting = "alert-rules"

// setupAlerts makes the rules of a fresh installation.
func (p *Parts) setupAlerts(ctx context.Context) error {
	_, err := p.Store.Setting(ctx, alertsSetting)
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	rules := alert.Defaults(p.Now())
	for i := range rules {
		by := setupActor()
		err := p.Store.CreateAlertRule(ctx, &rules[i], audit.Event{
			Time: p.Now().UTC(), Actor: by.Actor, Action: audit.AlertRuleCreate, Target: rules[i].Name, Replica: p.Replica, Outcome: audit.Done,
		})
		if err != nil && !fault.Is(err, fault.Conflict) { // another replica was faster
			return fmt.Errorf("make alert rule: %w", err)
		}
	}
	if _, err := p.Store.PutSettingOnce(ctx, alertsSetting, []byte("made")); err != nil {
		return fmt.Errorf("make alert rules: %w", err)
	}
	return nil
}
