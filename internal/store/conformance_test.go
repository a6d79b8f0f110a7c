package store_test

import (
	"testing"

	"github.com/certloom/certloom/internal/store/storetest"
)

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.SQLite)
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	storetest.NeedPostgres(t)
	storetest.Run(t, storetest.Postgres)
}
