# Thin on purpose: what each word does is in scripts/.
.PHONY: help run test lint bench demo console sqlx openapi

help: ## say what there is
	@sed -n "s/^\([a-z]*\):.*## /  make \1 | /p" $(MAKEFILE_LIST)

run: ## install what is missing, build the release, start the engine and say where the console is
	@scripts/run

test: ## install what is missing, then run every test
	@scripts/test

lint: ## format, lints, documentation, freshness of generated files
	@scripts/lint

bench: ## measure the promises of the house (benches/README.md)
	@scripts/bench

demo: ## start the engine with people in it
	@scripts/demo

console: ## build the web console alone
	@scripts/console

sqlx: ## write the offline data of the checked queries (.sqlx/)
	@scripts/sqlx

openapi: ## write the documents of the API (openapi.json, asyncapi.json)
	@NOVA_RENEW_OPENAPI=1 cargo test --quiet --locked -p nova --test integration -- --exact openapi::the_checked_in_copy_is_what_the_code_says
