// What the operator's gate Job runs against a candidate: order_flow.js with the Job's numbers.
export { default, handleSummary, options } from './order_flow.js';
