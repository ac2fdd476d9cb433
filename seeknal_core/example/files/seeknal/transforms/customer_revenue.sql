/* ---
description: Revenue per customer
tags: [gold]
materialization:
  - type: postgresql
    connection: warehouse
    table: analytics.customer_revenue
    mode: full
--- */
SELECT
  c.customer_id,
  c.name,
  c.country,
  count(o.order_id)           AS orders,
  coalesce(sum(o.amount), 0)  AS revenue,
  max(o.ordered_at)           AS last_order_at
FROM source.customers AS c
LEFT JOIN transform.clean_orders AS o USING (customer_id)
GROUP BY ALL
